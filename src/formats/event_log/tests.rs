use super::fixture::{Log, image_load};
use super::*;
use crate::formats::testing::{run, tool};

const BANKS: [Bank; 3] = [Bank::Sha1, Bank::Sha256, Bank::Sha384];

/// A log with one of each; with `told`, of a machine whose TPM was started from locality 3.
fn sample(told: bool) -> Vec<u8> {
    let mut log = Log::new(&BANKS);
    if told {
        log.add_digests(0, NO_ACTION, &BANKS.map(Value::zero), b"StartupLocality\0\x03");
    }
    log.add(0, 0x8, b"version", b"1\x00.\x002\x00\x00\x00");
    log.variable(7, EFI_VARIABLE_DRIVER_CONFIG, "SecureBoot", &[1]);
    log.variable(7, EFI_VARIABLE_DRIVER_CONFIG, "dbx", &[]);
    log.action(4, "Calling EFI Application from Boot Option");
    for pcr in 0..8 {
        log.add(pcr, SEPARATOR, &[0; 4], &[0; 4]);
    }
    log.variable(7, EFI_VARIABLE_AUTHORITY, "db", &[7; 700]);
    let load = image_load(1 << 20, "\\EFI\\BOOT\\BOOTX64.EFI");
    log.add(4, EFI_BOOT_SERVICES_APPLICATION, b"the program", &load);
    log.add(
        5,
        EFI_GPT_EVENT,
        b"table",
        &[&[0; 92][..], &[3], &[0; 7]].concat(),
    );
    log.add(11, IPL, b"kernel", b".linux\0");
    log.add(
        9,
        EVENT_TAG,
        b"initrd",
        b"\x93\xa3\xec\x8f\x0c\0\0\0i\0n\0i\0t\0\0\0",
    );
    log.add(9, EVENT_TAG, b"options", b"\xed\x22\x3b\x8f\x03\0\0\0ab\0");
    log.add(23, 0x1234, b"?", b"\x01\x02");
    log.bytes
}

#[test]
fn events_are_read_and_told() {
    let bytes = sample(true);
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.banks, BANKS);
    let told: Vec<String> = log
        .events
        .iter()
        .filter(|event| event.kind != SEPARATOR)
        .map(|event| format!("{} {} {}", event.pcr, event.kind_name(), event.describe()))
        .collect();
    let expected = [
        "0 EV_NO_ACTION 17 bytes: 537461727475704c6f63616c69747900…",
        "0 EV_S_CRTM_VERSION 8 bytes: 31002e0032000000",
        "7 EV_EFI_VARIABLE_DRIVER_CONFIG SecureBoot: 1",
        "7 EV_EFI_VARIABLE_DRIVER_CONFIG dbx: empty",
        "4 EV_EFI_ACTION Calling EFI Application from Boot Option",
        "7 EV_EFI_VARIABLE_AUTHORITY db: 700 bytes",
        "4 EV_EFI_BOOT_SERVICES_APPLICATION PciRoot(0x0)/Pci(0x3,0x2)/HD(3,GPT,04030201-0605-0807-090a-0b0c0d0e0f10)/\
         \\EFI\\BOOT\\BOOTX64.EFI",
        "5 EV_EFI_GPT_EVENT partition table, 3 partitions",
        "11 EV_IPL .linux",
        "9 EV_EVENT_TAG tag 0x8feca393: init",
        "9 EV_EVENT_TAG tag 0x8f3b22ed: ab",
        "23 0x00001234 2 bytes: 0102",
    ];
    assert_eq!(told, expected);
    let variable = log.events[2].variable().unwrap();
    assert_eq!((variable.name.as_str(), variable.value), ("SecureBoot", &[1][..]));
    assert!(log.events[2].digests_data() && !log.events[1].digests_data());
    let load = log.events.iter().find_map(Event::image_load).unwrap();
    assert_eq!(load.size, 1 << 20);
}

#[test]
fn replay_starts_where_the_machine_started() {
    let bytes = sample(true);
    let log = EventLog::parse(&bytes).unwrap();
    for bank in BANKS {
        let registers = log.replay(bank);
        let mut started = vec![0; bank.size() - 1];
        started.push(3);
        let zero = Value::new(bank, &started).unwrap();
        assert_eq!(registers[&0], zero.measured(b"version").measured(&[0; 4]));
        let zero = Value::zero(bank);
        assert_eq!(registers[&11], zero.measured(b"kernel"));
        assert_eq!(
            registers.keys().copied().collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 23]
        );
    }
    assert!(log.replay(Bank::Sha512).is_empty());
    let mut crtm = Log::new(&BANKS);
    crtm.add(0, EFI_HCRTM_EVENT, b"HCRTM", b"HCRTM");
    let log = EventLog::parse(&crtm.bytes).unwrap();
    assert_eq!(log.initial(0, Bank::Sha256).as_bytes()[31], 4);
    assert_eq!(log.initial(17, Bank::Sha256).as_bytes(), [0xff; 32]);
}

#[test]
fn the_old_log_has_sha1_alone() {
    let mut bytes = Vec::new();
    for (pcr, kind, data) in [(0u32, 0x8u32, &b"v"[..]), (4, EFI_ACTION, b"Calling")] {
        bytes.extend(pcr.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(Bank::Sha1.digest(data).as_bytes());
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
    }
    bytes.extend([0; 100]);
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.banks, [Bank::Sha1]);
    assert_eq!(log.events.len(), 2);
    assert_eq!(
        log.replay(Bank::Sha1)[&4],
        Value::zero(Bank::Sha1).measured(b"Calling")
    );
}

#[test]
fn damaged_logs_are_refused_with_the_place() {
    let bytes = sample(true);
    for end in 1..bytes.len() {
        if let Err(error) = EventLog::parse(&bytes[..end]) {
            assert!(
                matches!(error, LogError::Short { .. } | LogError::Header(_)),
                "{error}"
            );
        }
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = bytes.clone();
            bad[at] = value;
            if let Ok(log) = EventLog::parse(&bad) {
                log.events.iter().for_each(|event| drop(event.describe()));
                log.replay(Bank::Sha256);
            }
        }
    }
    let header = Log::new(&BANKS).bytes;
    let altered = |at: usize, bytes: &[u8]| {
        let mut bad = header.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        EventLog::parse(&bad).unwrap_err().to_string()
    };
    let start = "the log's header, its first event, ";
    assert_eq!(
        altered(45, b"2"),
        format!("{start}is of a version that is not understood")
    );
    assert_eq!(
        altered(56, &[0, 0, 0, 1]),
        format!("{start}announces an impossible number of hash algorithms")
    );
    assert_eq!(
        altered(62, &[21]),
        format!("{start}gives a hash algorithm digests of another size than it has")
    );
    assert_eq!(
        altered(64, &[4, 0, 20, 0]),
        format!("{start}announces a hash algorithm twice")
    );
    let mut log = Log::new(&BANKS);
    log.add(24, IPL, b"", b"");
    let error = EventLog::parse(&log.bytes).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "event 1 at byte {} extends PCR 24, which no TPM has",
            header.len()
        )
    );
    let mut log = Log::new(&BANKS);
    log.add_digests(1, IPL, &[Bank::Sha512.digest(b"")], b"");
    let error = EventLog::parse(&log.bytes).unwrap_err().to_string();
    assert!(
        error.ends_with("has a digest of the unannounced algorithm 0x000d"),
        "{error}"
    );
    let mut log = Log::new(&BANKS);
    log.add_digests(1, IPL, &[Bank::Sha256.digest(b""); 2], b"");
    let error = EventLog::parse(&log.bytes).unwrap_err().to_string();
    assert!(error.ends_with("has two digests of sha256"), "{error}");
}

#[test]
fn tpm2_eventlog_replays_to_the_same_values() {
    if !tool("tpm2_eventlog") {
        return;
    }
    // Bookworm's extends PCR 0 with what only tells.
    let bytes = sample(false);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let told = run("tpm2_eventlog", [file.path()]);
    let (_, told) = told.split_once("\npcrs:").unwrap();
    let log = EventLog::parse(&bytes).unwrap();
    for bank in BANKS {
        let theirs = told.split_once(&format!("{bank}:\n")).unwrap().1;
        let theirs = theirs.lines().map_while(|line| line.split_once(" : 0x"));
        let theirs = theirs.map(|(pcr, value)| (pcr.trim().parse::<u32>().unwrap(), value.to_owned()));
        let ours = log
            .replay(bank)
            .into_iter()
            .map(|(pcr, value)| (pcr, value.to_string()));
        assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
    }
}
