//! What definitions can already say and this version cannot yet build. To lift a limit, take its
//! row out.

use super::plan::{Layout, RootFormat};
use super::raw::{Kind, Value};
use super::reader::{Context, listed};
use super::values::FromText;

struct Limit {
    key: &'static str,
    is_value: fn(&str) -> bool,
    /// The values that work.
    works: &'static [&'static str],
    /// What the others would need.
    what: &'static str,
}

const LIMITS: &[Limit] = &[
    Limit {
        key: "os.layout",
        is_value: |text| Layout::from_text(text).is_ok(),
        works: &["verity-usr"],
        what: "the layout of ostree deployments",
    },
    Limit {
        key: "disk.root.format",
        is_value: |text| RootFormat::from_text(text).is_ok(),
        works: &["ext4"],
        what: "another file system than ext4 on the root partition",
    },
];

/// Whether this version can build `value` of key `path`. If not, it has been reported. What is no value of the
/// key at all passes, to be refused as such.
pub(super) fn check(context: &Context<'_>, path: &str, value: &Value) -> bool {
    let Kind::String(text) = &value.kind else {
        return true;
    };
    let Some(limit) = LIMITS.iter().find(|limit| limit.key == path) else {
        return true;
    };
    if limit.works.contains(&text.as_str()) || !(limit.is_value)(text) {
        return true;
    }
    let message = format!(
        "`{path}` = \"{text}\": {} is not built yet in this version",
        limit.what
    );
    let help = format!("use {}", listed(limit.works.iter().copied()));
    context.report(
        context
            .problem(value.span, message)
            .label("not built yet")
            .help(help),
    );
    false
}
