//! The same image where clouds attach it.

use hullwright::vm::{DiskBus, DiskFormat, Machine};

use crate::lab::{GROW, Lab, PATIENCE};

#[test]
#[ignore = "boots two machines"]
fn vhd_on_scsi_and_nvme() {
    let Some(lab) = Lab::enter() else { return };
    for bus in [DiskBus::Scsi, DiskBus::Nvme] {
        let machine = Machine::new(&lab.built)
            .format(DiskFormat::Vhd)
            .bus(bus)
            .grow(GROW);
        let mut vm = machine.start().unwrap();
        let healthy = vm
            .wait_healthy(PATIENCE)
            .unwrap_or_else(|error| panic!("{bus:?}: {error:?}"));
        eprintln!("{bus:?}: healthy after {:.0} s", healthy.as_secs_f64());
    }
}
