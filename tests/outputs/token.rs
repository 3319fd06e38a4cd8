//! Keys on a token, here SoftHSM's: a whole build signs with them, and leaves what the same keys in files leave.

use std::fs;
use std::path::Path;

use crate::detached::{files, same};
use crate::run::{answer, program};
use crate::signed::{build, definition};
use crate::support::detached::tables;
use crate::support::tool;

const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "1234";
const DISK: &str = "[disk]\nsize = \"7GiB\"\n[outputs]\nformats = [\"raw\"]\n[outputs.erofs]\ncompression = \"zstd\"\nlevel = 1\n";

/// The keys at hand, with the RSA keys on the token; that of the commit, Ed25519, stays in its file.
fn on_token() -> String {
    let names = ["db", "verity", "pcr"];
    names.iter().fold(tables(true), |text, name| {
        let key = format!("key = \"keys/{name}.key\"");
        assert!(text.contains(&key), "{name}");
        text.replace(&key, &format!("key = \"pkcs11:token=images;object={name}\""))
    })
}

#[test]
#[ignore = "builds the sample image twice more"]
fn keys_on_a_token_leave_what_keys_in_files_leave() {
    let tools = ["softhsm2-util", "qemu-img", "cmp"];
    if !tools.iter().all(|name| tool(name).is_some()) {
        return;
    }
    let directory = crate::run::scratch();
    let at = |name: &str| directory.path().join(name);
    let path = definition(directory.path(), &format!("{DISK}{}", tables(true)));
    let Some(mut command) = build(&path, &at("files")) else {
        return;
    };
    answer(&mut command);

    fs::create_dir(at("tokens")).unwrap();
    let configuration = at("softhsm2.conf");
    let text = format!("directories.tokendir = {}\n", at("tokens").display());
    fs::write(&configuration, text).unwrap();
    let mut init = program("softhsm2-util", ["--init-token", "--free", "--label", "images"]).unwrap();
    init.args(["--so-pin", "87654321", "--pin", PIN]);
    answer(init.env("SOFTHSM2_CONF", &configuration));
    for (id, name) in ["db", "verity", "pcr"].into_iter().enumerate() {
        let mut import = program("softhsm2-util", ["--token", "images", "--pin", PIN]).unwrap();
        import.args(["--label", name, "--id", &format!("0{id}"), "--import"]);
        import.arg(at("keys").join(format!("{name}.key")));
        answer(import.env("SOFTHSM2_CONF", &configuration));
        // From here on, the token alone has it.
        fs::remove_file(at("keys").join(format!("{name}.key"))).unwrap();
    }
    let path = definition(directory.path(), &format!("{DISK}{}", on_token()));
    let mut command = build(&path, &at("token")).unwrap();
    command.env("SOFTHSM2_CONF", &configuration);
    command.env("HULLWRIGHT_PKCS11_MODULE", LIBRARY);
    answer(command.env("HULLWRIGHT_PKCS11_PIN", PIN));

    let only = |place: &str| fs::read_dir(at(place)).unwrap().next().unwrap().unwrap().path();
    let (file, token) = (only("files"), only("token"));
    assert_eq!(files(&file), files(&token));
    let report = Path::new("build-report.json");
    for name in files(&file).iter().filter(|name| *name != report) {
        assert!(same(&file.join(name), &token.join(name)), "{}", name.display());
    }
}
