use super::evaluate;

/// The programs, as lines; `?` for what is not known.
fn calls(text: &str, arguments: &[u32]) -> Result<Vec<String>, String> {
    let calls = evaluate(text, arguments).map_err(|unclear| unclear.0)?;
    let line = |call: super::Call| {
        let words = call.words.into_iter().map(|word| word.unwrap_or("?".to_owned()));
        let mut line = words.collect::<Vec<_>>().join(" ");
        if let Some(input) = call.input {
            line.push_str(&format!(" << {}", input.trim_end()));
        }
        line
    };
    Ok(calls.into_iter().map(line).collect())
}

#[test]
fn conditions_on_the_count_are_known() {
    let post = "\nif [ $1 -eq 1 ] && [ -x /usr/bin/systemctl ]; then \n    # Initial installation \n    \
                /usr/bin/systemctl --no-reload preset a.service || : \nfi\n";
    assert_eq!(
        calls(post, &[1]).unwrap(),
        ["/usr/bin/systemctl --no-reload preset a.service"]
    );
    assert_eq!(calls(post, &[2]).unwrap(), [""; 0]);
    let cases: [(&str, &[&str]); 8] = [
        (
            "if test \"$1\" = 0; then rm -rf /; else depmod -a; fi",
            &["depmod -a"],
        ),
        ("[ $1 -gt 1 ] && rm /x\nexit 0\nrm /y", &[]),
        ("[ -e /x ] && a\n[ -e /y ] || b", &["a", "b"]),
        (
            "if [ $1 = 2 ]; then a; elif ! [ \"$1\" -ge 2 ]; then b; else c; fi >/dev/null 2>&1",
            &["b"],
        ),
        (
            "for x in a b 'c d'; do p \"$x\" $y; done",
            &["p a ?", "p b ?", "p c d ?"],
        ),
        (
            "x=1; if [ -e /f ]; then x=2; fi; p $x; y=${x}z; p $y",
            &["p ?", "p ?"],
        ),
        (
            "p - <<-EOF || :\n\tg one\n\tu two\n\tEOF\nq",
            &["p - << g one\nu two", "q"],
        ),
        ("{ a && exit 0; } 2>/dev/null; b \\\n  c", &["a", "b c"]),
    ];
    for (text, expected) in cases {
        assert_eq!(calls(text, &[1]).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_is_not_understood_is_named() {
    let cases = [
        ("while read x; do y; done", "while"),
        ("a | b", "|"),
        ("a &", "&"),
        ("x=`date`", "`…`"),
        ("x=$(date)", "$(date)"),
        ("echo 1 > /etc/x", "a redirection to or from `/etc/x`"),
        ("$PROGRAM x", "`$PROGRAM`, a program that a variable names"),
        ("a || exit 1", "exit with a failure"),
        ("f() { a; }", "("),
        ("p <<EOF\n$x\nEOF", "<<EOF with `$`"),
        ("p <<EOF\nx", "<<EOF"),
        ("if a; then b", "`fi` is missing"),
        ("PATH=/x ls", "ls with another environment"),
        ("export PATH=/x", "export PATH"),
        ("cat 'x", "'"),
        ("x=${a%b}", "${a%b}"),
    ];
    for (text, expected) in cases {
        assert_eq!(calls(text, &[1]).unwrap_err(), expected, "{text}");
    }
    let deep = "{ ".repeat(5000);
    assert!(calls(&deep, &[1]).is_err());
    let deep = "! ".repeat(100_000) + "a";
    assert!(calls(&deep, &[1]).is_err());
}
