//! `hullwright lock --check`

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, said, says, words};
use crate::server::Server;
use crate::support::tool;

fn check(bench: &Bench, more: &[&str]) -> (Option<i32>, String) {
    let output = bench.lock(&[&["--check", "set.lock.toml"], more].concat());
    (output.status.code(), said(&output))
}

#[test]
fn nothing_has_changed() {
    let Some(bench) = Bench::new(4) else { return };
    bench.locked(&["rpms"]);
    let (code, text) = check(&bench, &[]);
    assert_eq!(code, Some(0), "{text}");
    says(&text, &["set.lock.toml describes its 4 packages"]);
    bench.createrepo(&[]);
    assert_eq!(check(&bench, &[]).0, Some(0));
    let server = Server::new(&bench.path("rpms"));
    bench.locked(&[&server.url, "--key", &bench.key()]);
    server.requests();
    let (code, text) = check(&bench, &["--json"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\"up-to-date\": true"), "{text}");
    let requests = server.requests();
    assert!(
        requests.iter().all(|line| !line.contains(".rpm")),
        "no package is fetched: {requests:?}"
    );
    // A list with its repositories is found again by what the lock file has of it.
    let names: Vec<_> = bench
        .packages()
        .iter()
        .map(|path| path.file_name().unwrap().to_owned())
        .collect();
    let names: Vec<_> = names.iter().map(|name| name.to_str().unwrap()).collect();
    fs::write(bench.path("list"), names.join("\n")).unwrap();
    bench.locked(&["list", "--repo", &server.url, "--key", &bench.key()]);
    assert_eq!(check(&bench, &[]).0, Some(0));
    // A lock file of version 1 does not say what it was made of.
    let text = fs::read_to_string(bench.path("set.lock.toml")).unwrap();
    let start = text.find("[[source]]").unwrap();
    let packages = text.find("[[package]]").unwrap();
    let old: String = format!("{}{}", &text[..start], &text[packages..])
        .replace("version = 2", "version = 1")
        .lines()
        .filter(|line| !line.starts_with("signed-by"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(bench.path("set.lock.toml"), old).unwrap();
    let (code, text) = check(&bench, &[]);
    assert_eq!(code, Some(1));
    says(&text, &["does not say what it was made of"]);
    assert_eq!(check(&bench, &[&server.url]).0, Some(0));
}

#[test]
fn every_change_is_told() {
    let (Some(bench), Some(sign)) = (Bench::new(6), tool("rpmsign")) else {
        return;
    };
    let lock = bench.locked(&["rpms"]);
    let packages = bench.packages();
    let name = |n: usize| packages[n].file_stem().unwrap().to_str().unwrap().to_owned();
    let (removed, resigned, moved) = (name(0), name(1), name(2));
    fs::remove_file(&packages[0]).unwrap();
    let output = std::process::Command::new(sign)
        .arg("--delsign")
        .arg(&packages[1])
        .output()
        .unwrap();
    assert!(output.status.success());
    fs::rename(&packages[2], bench.path("rpms/moved.rpm")).unwrap();
    let (code, text) = check(&bench, &[]);
    assert_eq!(code, Some(1));
    says(
        &text,
        &[
            &format!("OTHER BYTES  {resigned}: locked"),
            &format!("removed      {removed}"),
            &format!("moved        {moved}: rpms/"),
            "→ rpms/moved.rpm",
            "find out why",
        ],
    );
    let (code, text) = check(&bench, &["--json"]);
    assert_eq!(code, Some(1));
    let start = text.find('{').unwrap();
    let end = text.rfind('}').unwrap();
    let value: Value = serde_json::from_str(&text[start..=end]).unwrap();
    assert_eq!(value["up-to-date"], false);
    assert_eq!(value["changes"]["removed"], serde_json::json!([removed]));
    assert_eq!(value["changes"]["rebuilt"][0]["nevra"], resigned);
    assert_eq!(value["changes"]["moved"][0]["to"], "rpms/moved.rpm");
    assert_eq!(value["changes"]["added"], serde_json::json!([]));

    // Updated and added: the lock file of an older set.
    let text = fs::read_to_string(bench.path("set.lock.toml")).unwrap();
    let victim = &lock.packages[5].nevra;
    let (start, _) = victim.rsplit_once('-').unwrap();
    let older = format!(
        "{}-0.0.0-1.{}",
        start.rsplit_once('-').unwrap().0,
        victim.rsplit_once('.').unwrap().1
    );
    let last = text.rfind("[[package]]").unwrap();
    let before = text[..last].rfind("[[package]]").unwrap();
    let text = format!("{}{}", &text[..before], &text[last..]).replace(victim, &older);
    fs::write(bench.path("set.lock.toml"), text).unwrap();
    let (_, text) = check(&bench, &[]);
    says(
        &text,
        &[
            &format!("updated      {older} → {victim}"),
            &format!("added        {}", lock.packages[4].nevra),
        ],
    );
    fs::remove_file(bench.path("set.lock.toml")).unwrap();
    let output = bench.lock(&["--check", "set.lock.toml"]);
    says(&words(&output), &["cannot be read"]);
}
