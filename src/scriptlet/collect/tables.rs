//! Where in a header scriptlets and triggers stand.

use super::Kind;
use crate::formats::rpm::tag::{self, sense};

/// Tags of a plain scriptlet: text, interpreter, flags.
pub const PLAIN: [(Kind, [u32; 3]); 9] = [
    (
        Kind::Pretrans,
        [tag::PRETRANS, tag::PRETRANSPROG, tag::PRETRANSFLAGS],
    ),
    (Kind::Pre, [tag::PREIN, tag::PREINPROG, tag::PREINFLAGS]),
    (Kind::Post, [tag::POSTIN, tag::POSTINPROG, tag::POSTINFLAGS]),
    (
        Kind::Posttrans,
        [tag::POSTTRANS, tag::POSTTRANSPROG, tag::POSTTRANSFLAGS],
    ),
    (Kind::Preun, [tag::PREUN, tag::PREUNPROG, tag::PREUNFLAGS]),
    (Kind::Postun, [tag::POSTUN, tag::POSTUNPROG, tag::POSTUNFLAGS]),
    (
        Kind::Preuntrans,
        [tag::PREUNTRANS, tag::PREUNTRANSPROG, tag::PREUNTRANSFLAGS],
    ),
    (
        Kind::Postuntrans,
        [tag::POSTUNTRANS, tag::POSTUNTRANSPROG, tag::POSTUNTRANSFLAGS],
    ),
    (
        Kind::Verify,
        [tag::VERIFYSCRIPT, tag::VERIFYSCRIPTPROG, tag::VERIFYSCRIPTFLAGS],
    ),
];

/// Tags of a table of triggers.
pub struct Table {
    pub name: &'static str,
    pub scripts: u32,
    pub programs: u32,
    pub script_flags: u32,
    pub names: u32,
    pub versions: u32,
    pub flags: u32,
    pub indexes: u32,
    pub priorities: Option<u32>,
    /// By sense: prein, in, un, postun.
    pub kinds: [Option<Kind>; 4],
}

/// Senses of a trigger, in the order of [`Table::kinds`].
pub const SENSES: [u32; 4] = [
    sense::TRIGGERPREIN,
    sense::TRIGGERIN,
    sense::TRIGGERUN,
    sense::TRIGGERPOSTUN,
];

/// All tables of triggers that a header has.
pub const TABLES: [Table; 3] = [
    Table {
        name: "triggers",
        scripts: tag::TRIGGERSCRIPTS,
        programs: tag::TRIGGERSCRIPTPROG,
        script_flags: tag::TRIGGERSCRIPTFLAGS,
        names: tag::TRIGGERNAME,
        versions: tag::TRIGGERVERSION,
        flags: tag::TRIGGERFLAGS,
        indexes: tag::TRIGGERINDEX,
        priorities: None,
        kinds: [
            Some(Kind::TriggerPrein),
            Some(Kind::TriggerIn),
            Some(Kind::TriggerUn),
            Some(Kind::TriggerPostun),
        ],
    },
    Table {
        name: "file triggers",
        scripts: tag::FILETRIGGERSCRIPTS,
        programs: tag::FILETRIGGERSCRIPTPROG,
        script_flags: tag::FILETRIGGERSCRIPTFLAGS,
        names: tag::FILETRIGGERNAME,
        versions: tag::FILETRIGGERVERSION,
        flags: tag::FILETRIGGERFLAGS,
        indexes: tag::FILETRIGGERINDEX,
        priorities: Some(tag::FILETRIGGERPRIORITIES),
        kinds: [
            None,
            Some(Kind::FileTriggerIn),
            Some(Kind::FileTriggerUn),
            Some(Kind::FileTriggerPostun),
        ],
    },
    Table {
        name: "transaction file triggers",
        scripts: tag::TRANSFILETRIGGERSCRIPTS,
        programs: tag::TRANSFILETRIGGERSCRIPTPROG,
        script_flags: tag::TRANSFILETRIGGERSCRIPTFLAGS,
        names: tag::TRANSFILETRIGGERNAME,
        versions: tag::TRANSFILETRIGGERVERSION,
        flags: tag::TRANSFILETRIGGERFLAGS,
        indexes: tag::TRANSFILETRIGGERINDEX,
        priorities: Some(tag::TRANSFILETRIGGERPRIORITIES),
        kinds: [
            None,
            Some(Kind::TransFileTriggerIn),
            Some(Kind::TransFileTriggerUn),
            Some(Kind::TransFileTriggerPostun),
        ],
    },
];
