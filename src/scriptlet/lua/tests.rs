use std::process::Command;

use super::interpret;
use crate::testing::tool;

/// Runs `script`; `print` appends to the text that is given back, or the error.
fn run(script: &str) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out");
    let text = format!(
        "local out = io.open({:?}, 'w')\n\
         function print(...) local t = table.pack(...) for i = 1, t.n do t[i] = tostring(t[i]) end \
         out:write(table.concat(t, '\\t'), '\\n') end\n{script}\nout:close()",
        file.display().to_string()
    );
    let environment = [(b"RPM_INSTALL_PREFIX0".to_vec(), b"/opt".to_vec())];
    interpret(
        text.as_bytes(),
        "p-1-1.noarch %post",
        &[b"1".to_vec()],
        &environment,
    )
    .map_err(|error| error.to_string())?;
    Ok(std::fs::read_to_string(file).unwrap())
}

#[test]
fn the_libraries_do_what_they_do_in_rpm() {
    let directory = tempfile::tempdir().unwrap();
    let d = directory.path().display().to_string();
    let cases: [(&str, &str); 22] = [
        (
            "print(arg[1], arg[2], #arg, RPM_INSTALL_PREFIX[1])",
            "<lua>\t1\t2\t/opt\n",
        ),
        (
            "print(rpm.vercmp('1.0', '1.0~rc1'), rpm.vercmp('1:1', '2'), rpm.vercmp('1-1', '1-1'))",
            "1\t1\t0\n",
        ),
        (
            "v = rpm.ver('5:1.0-2') print(v, v.e, v.v, v.r, v < rpm.ver(6, '0', 1), v == rpm.ver('5:1.0-2'), rpm.ver('1').r)",
            "5:1.0-2\t5\t1.0\t2\ttrue\ttrue\tnil\n",
        ),
        (
            "print(rpm.b64encode('hello', 0), rpm.b64decode('aGVsbG8='), rpm.b64decode('%'))",
            "aGVsbG8=\thello\tnil\n",
        ),
        ("print(rpm.b64encode('hello', 4))", "aGVs\nbG8=\n\n"),
        (
            "print(rpm.expand('%{_bindir} %{nothing} %%'), rpm.isdefined('_bindir'))",
            "/usr/bin %{nothing} %\ttrue\tfalse\n",
        ),
        (
            "rpm.define('xyz y z') print(rpm.expand('%xyz'), macros.xyz, macros.none) rpm.undefine('xyz') print(macros.xyz)",
            "y z\ty z\tnil\nnil\n",
        ),
        (
            "macros.qqq = '%{_bindir}/q' print(rpm.expand('%qqq'))",
            "/usr/bin/q\n",
        ),
        (
            "print(table.concat(rpm.splitargs('a \"b c\" \\31d e\\31'), '|'), rpm.unsplitargs({'a', 'b c'}))",
            "a|\"b|c\"|d e\t\u{1f}a\u{1f} \u{1f}b c\u{1f}\n",
        ),
        (
            "print(posix.mkdir(D..'/n'), posix.mkdir(D..'/n'))",
            "0.0\tnil\tD/n: File exists\t17.0\n",
        ),
        (
            "f = rpm.open(D..'/z', 'w.gzdio') f:write('some text') f:close() print(rpm.open(D..'/z', 'r.gzdio'):read())",
            "some text\n",
        ),
        (
            "f = rpm.open(D..'/z') print(f:read(2) == '\\31\\139') f = f:reopen('r.gzdio') print(f:read(4))",
            "true\nsome\n",
        ),
        (
            "print(posix.symlink('t', D..'/l'), posix.readlink(D..'/l'), posix.stat(D..'/l', 'type'))",
            "0.0\tt\tlink\n",
        ),
        (
            "print(posix.chmod(D..'/z', '640'), posix.stat(D..'/z', 'mode'), posix.chmod(D..'/z', 'u+x'), posix.stat(D..'/z').mode)",
            "0.0\trw-r-----\t0.0\trwxr-----\n",
        ),
        (
            "for n in posix.files(D) do print(n) end print(#posix.dir(D))",
            ".\n..\nl\nn\nz\n5\n",
        ),
        (
            "print(posix.access(D..'/z', 'r'), posix.access(D..'/none'))",
            "0.0\tnil\tD/none: No such file or directory\t2.0\n",
        ),
        (
            "print(table.concat(rpm.glob(D..'/[a-l]*'), ' '), table.concat(rpm.glob(D..'/q*'), ' '))",
            "D/l\tD/q*\n",
        ),
        (
            "print(posix.getpasswd('root', 'uid'), posix.getpasswd(0).name, posix.getgroup('root').gid)",
            "0.0\troot\t0.0\n",
        ),
        (
            "print(posix.unlink(D..'/l'), posix.rmdir(D..'/n'), posix.rmdir(D..'/z'))",
            "0.0\t0.0\tnil\tD/z: Not a directory\t20.0\n",
        ),
        (
            "print(rpm.execute('sh', '-c', 'exit 3'))",
            "nil\texit code\t3.0\n",
        ),
        (
            "print(rpm.spawn({'echo', 'hi'}, {stdout = D..'/s'}), io.open(D..'/s'):read('a'))",
            "0.0\thi\n\n",
        ),
        (
            "print(pcall(os.exit, 1))",
            "false\truntime error: exit not permitted in this context\n",
        ),
    ];
    for (script, expected) in cases {
        let printed = run(&format!("local D = {d:?}\n{script}")).unwrap();
        // The rest of a Lua error is where it was raised.
        let first = |text: &str| {
            text.split("\nstack traceback")
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let printed = first(&printed).replace(&d, "D");
        assert_eq!(printed.trim_end(), expected.trim_end(), "{script}");
    }
}

#[test]
fn errors_name_the_scriptlet_and_the_line() {
    let cases = [
        ("\nerror('FATAL: too old', 0)", "FATAL: too old"),
        ("\nrpm.nonsense()", "p-1-1.noarch %post:4"),
        ("if", "p-1-1.noarch %post:"),
        ("posix.exec('/bin/true')", "exec not permitted in this context"),
        ("rpm.ver()", "invalid number of arguments: 0"),
        ("posix.chmod('/', 'nonsense')", "bad mode"),
    ];
    for (script, expected) in cases {
        let error = run(script).unwrap_err();
        assert!(error.contains(expected), "{script}: {error}");
    }
}

/// What RPM itself prints for the same expressions.
#[test]
fn rpm_prints_the_same() {
    let Some(rpm) = tool("rpm-4.20") else {
        return;
    };
    let expressions = [
        "rpm.vercmp('1.0^git', '1.0')",
        "tostring(rpm.ver('3:1.2-4'))",
        "rpm.ver(1, '2', '3') <= rpm.ver('1:2-3')",
        "rpm.b64encode(string.rep('x', 60))",
        "rpm.b64encode('abc', 8)",
        "rpm.unsplitargs(rpm.splitargs('a \"b c\" d'))",
        "posix.stat('/', 'type')",
        "posix.stat('/none')",
        "posix.umask()",
        "posix.uname('%s-%m')",
        "posix.getpasswd('root', 'dir')",
        "posix.getgroup('root').name",
        "posix.mkdir('/')",
        "posix.getprocessid('uid')",
        "posix.readlink('/none')",
        "posix.pathconf('/', 'name_max')",
        "posix.sysconf('version')",
        "rpm.execute('true')",
        "rpm.spawn({'false'})",
        "table.concat(rpm.glob('/et[a-d]'), ' ')",
        "select('#', posix.symlink('/a', '/none/b'))",
    ];
    for expression in expressions {
        let query = Command::new(&rpm)
            .args(["--eval", &format!("%{{lua: print({expression})}}")])
            .output()
            .unwrap();
        let expected = String::from_utf8(query.stdout).unwrap();
        let ours = run(&format!("print({expression})")).unwrap();
        // What macros print gets no tab between values.
        let joined = ours.replace('\t', "");
        assert_eq!(
            joined.trim_end(),
            expected.replace('\t', "").trim_end(),
            "{expression}"
        );
    }
}
