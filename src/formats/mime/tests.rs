use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{MimeError, Source, compile};
use crate::testing::tool;

/// Nearly everything that a source can say, and much that it should not.
const ODD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE mime-info [ <!ATTLIST glob weight CDATA "50"> ]>
<!-- before --><mime-info xmlns="http://www.freedesktop.org/standards/shared-mime-info">
 <mime-type type="Text/X-Demo">
  <comment>one &amp; &lt;two&gt; &#233; "q" 'a'</comment><comment xml:lang="de">zwei
zeilen</comment>
  <comment>instead</comment>
  <acronym>D</acronym><expanded-acronym>&quot;Demo&quot;</expanded-acronym>
  <glob pattern="*.Demo" weight="80"/><glob pattern="*.DEMO" case-sensitive="true"/>
  <glob pattern="readme.demo"/><glob pattern="*.[0-9]demo"></glob><glob pattern="*é.ü"/><glob pattern="*.o"/>
  <glob pattern="a	b &#10;c&#9;&quot;&amp;"/>
  <sub-class-of type="text/plain"/><sub-class-of type="application/xml"/><alias type="text/demo"/>
  <root-XML namespaceURI="http://x.example/" localName="demo"/><root-XML namespaceURI="" localName="bare"/>
  <icon name="demo"/><generic-icon name="text-x-generic"/>
  <magic priority="60"><match type="string" offset="0:64" value="a\0\x41\101" mask="0xff00"><match type="host16" offset="4" value="0x0102"/>
   <match type="big32" offset="-1" value="7" mask="0xff"><match type="byte" offset="1" value="010"/></match></match>
   <match type="little32" offset="8" value="-1"/></magic>
  <treemagic priority="40"><treematch path="a/b" type="directory" match-case="true" non-empty="true" executable="true"
    mimetype="text/x"><treematch path="c"/></treematch><treematch path="d" type="link"/></treemagic>
  <unknown a="b"/>
 </mime-type>
 <mime-type type="text/x-demo"><comment>other case</comment><glob pattern="*.demo" weight="90"/></mime-type>
 <mime-type type="application/x-none"><glob-deleteall/><magic-deleteall/><comment/>
   <glob pattern="*.none" weight="500"/><comment>not reached</comment></mime-type>
 <mime-type type="application/x-wrong"><comment>w</comment><magic><match type="string" offset="0" value="x" mask="ff"/></magic>
   <comment xml:lang="fr">not reached</comment></mime-type>
 <mime-type type="strange/thing"><magic><match type="host32" offset="1" value="1"/></magic><magic><match type="string" offset="0" value="t"/></magic></mime-type>
 <mime-type type="nonsense"/><other/><mime-type/>
</mime-info>"#;
const OVERRIDE: &str = r#"<mime-info xmlns="http://www.freedesktop.org/standards/shared-mime-info">
 <mime-type type="text/plain"><comment>overridden</comment><alias type="text/demo"/><glob pattern="*.txt" weight="10"/></mime-type>
</mime-info>"#;

/// Every file of a directory but its sources.
fn contents(place: &Path, below: &str, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(place.join(below)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if place.join(&path).is_dir() {
            if path != "packages" {
                contents(place, &path, into);
            }
        } else {
            into.insert(path.clone(), fs::read(place.join(&path)).unwrap());
        }
    }
}

#[test]
fn the_database_is_that_of_the_tool() {
    let Some(tool) = tool("update-mime-database") else {
        return;
    };
    let version = Command::new(&tool).arg("-v").output().unwrap().stderr;
    let version = String::from_utf8(version).unwrap();
    let version = version
        .lines()
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    let real = fs::read("/usr/share/mime/packages/freedesktop.org.xml").unwrap();
    let sets: [&[(&str, &[u8])]; 3] = [
        &[("freedesktop.org.xml", &real)],
        &[("odd.xml", ODD.as_bytes())],
        &[
            ("a.xml", ODD.as_bytes()),
            ("freedesktop.org.xml", &real),
            ("Override.xml", OVERRIDE.as_bytes()),
        ],
    ];
    for set in sets {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("packages")).unwrap();
        for (name, bytes) in set {
            fs::write(place.path().join("packages").join(name), bytes).unwrap();
        }
        let status = Command::new(&tool).arg(place.path()).output().unwrap().status;
        assert!(status.success());
        let mut expected = BTreeMap::new();
        contents(place.path(), "", &mut expected);

        let sources: Vec<_> = set.iter().map(|(name, bytes)| Source { name, bytes }).collect();
        let compiled = compile(&sources, &version).unwrap();
        let count = compiled.files.len();
        let made: BTreeMap<_, _> = compiled.files.into_iter().collect();
        assert_eq!(made.len(), count);
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&made), names(&expected));
        for (name, bytes) in &made {
            assert!(*bytes == expected[name], "{name} of {}", set[0].0);
        }
    }
}

#[test]
fn what_is_wrong_with_a_type_is_remarked_on() {
    let source = Source {
        name: "odd.xml",
        bytes: ODD.as_bytes(),
    };
    let compiled = compile(&[source], "2.4").unwrap();
    assert_eq!(
        compiled.remarks,
        [
            "odd.xml: `Text/X-Demo` is of no known kind",
            "odd.xml: `application/x-none`: a glob's weight is not 0 to 100; the rest of it is passed over",
            "odd.xml: `application/x-wrong`: the mask `ff` does not begin with 0x; the rest of it is passed over",
            "odd.xml: `strange/thing` is of no known kind",
            "odd.xml: `nonsense` is no MIME type",
            "odd.xml: `other` is no MIME type",
            "odd.xml: `mime-type` is no MIME type",
            "a pattern of `Text/X-Demo` has a line break in it; it is passed over",
        ]
    );
}

#[test]
fn what_cannot_be_taken_stops() {
    let wrap = |inside: &str| {
        format!(
            "<mime-info xmlns='http://www.freedesktop.org/standards/shared-mime-info'>{inside}</mime-info>"
        )
    };
    let cases = [
        ("<mime-info>".to_owned(), "it ends before its root element does"),
        (wrap("<mime-type type='a/b'>"), "expected `</mime-type>`"),
        (wrap("&nothing;"), "`&nothing;` stands for nothing"),
        (wrap("<mime-type type='a/../b'/>"), ""),
        (wrap("<mime-type type='../b'/>"), "no file can be named after"),
        (
            wrap("<mime-type type='a/b'><x:y xmlns:x='z'/></mime-type>"),
            "`y` is of another namespace",
        ),
        (
            wrap("<mime-type type='a/b'><comment><b/></comment></mime-type>"),
            "more in `comment` than text",
        ),
        (
            wrap("<mime-type type='a/b'><glob pattern='*'/></mime-type>"),
            "which fits all",
        ),
        (
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a/>".to_owned(),
            "entities of its own",
        ),
        (
            "<?xml version='1.0' encoding='ISO-8859-1'?><a/>".to_owned(),
            "iso-8859-1, not in UTF-8",
        ),
    ];
    for (text, expected) in cases {
        let source = Source {
            name: "x",
            bytes: text.as_bytes(),
        };
        let said = match compile(&[source], "1") {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(
            said.contains(expected) && said.is_empty() == expected.is_empty(),
            "{text}: {said}"
        );
    }
    let source = Source {
        name: "x",
        bytes: b"<a>\xff",
    };
    let error = compile(&[source], "1").unwrap_err();
    assert!(matches!(error, MimeError::Malformed { at: 3, .. }), "{error}");
}
