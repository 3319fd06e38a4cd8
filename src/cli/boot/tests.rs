use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    boot: BootArgs,
}

fn parse(line: &str) -> Result<BootArgs, clap::Error> {
    Cli::try_parse_from(["boot"].into_iter().chain(line.split(' '))).map(|cli| cli.boot)
}

#[test]
fn arguments() {
    let args =
        parse("out --until-healthy --timeout 90 --ssh --grow --keep -- cat /etc/os-release -x").unwrap();
    assert_eq!(args.image, PathBuf::from("out"));
    assert!(args.until_healthy && args.ssh && args.grow && args.keep && !args.open_network);
    assert_eq!(args.timeout, Some(90));
    assert_eq!(args.command, ["cat", "/etc/os-release", "-x"]);
    for line in [
        "out -- id",
        "out --keys k",
        "out --secure-boot --keys k --firmware-vars f",
        "out --bus ide",
        "out --timeout soon",
        "out second",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn keys() {
    let cases: &[(&[u8], &[u8], bool)] = &[
        (b"ls\r\x03", b"ls\r\x03", false),
        (b"a\x01\x01b", b"a\x01b", false),
        (b"a\x01qb", b"ab", false),
        (b"a\x01xb", b"", true),
        (b"\x01X", b"", true),
    ];
    for (keys, expected, leaves) in cases {
        let mut console = Vec::new();
        let left = AtomicBool::new(false);
        type_in(*keys, &mut console, &left);
        assert_eq!(
            (console.as_slice(), left.load(Ordering::Relaxed)),
            (*expected, *leaves),
            "{keys:?}"
        );
    }
}
