//! Where the time of a build went: a table, and a trace that Perfetto shows.

use serde_json::{Value, json};

use super::progress::Stage;
use super::traffic::Traffic;

/// A table of `stages`, for people. Stages that overlap share processors, bytes, memory and what was found in the stores.
/// Columns of the remote store stand there where something went back or forth.
pub fn table(stages: &[Stage]) -> String {
    let is_remote = stages.iter().any(|stage| stage.used.remote != Traffic::default());
    let remote = |columns: String| if is_remote { columns } else { String::new() };
    let mut text = format!(
        "{:>8} {:>8} {:>8} {:>9} {:>10} {:>9} {:>8} {:>8}{}  stage\n",
        "begin s",
        "took s",
        "CPU s",
        "read MiB",
        "write MiB",
        "peak MiB",
        "hits",
        "misses",
        remote(format!(
            " {:>8} {:>8} {:>8} {:>8}",
            "r. hits", "r. miss", "down MiB", "up MiB"
        )),
    );
    for stage in stages {
        let used = &stage.used;
        let Traffic {
            hits,
            misses,
            received,
            sent,
        } = used.remote;
        text.push_str(&format!(
            "{:>8.2} {:>8.2} {:>8.2} {:>9} {:>10} {:>9} {:>8} {:>8}{}  {}\n",
            stage.begin,
            stage.seconds,
            used.cpu_ms as f64 / 1000.0,
            used.bytes_read >> 20,
            used.bytes_written >> 20,
            used.peak_memory >> 20,
            used.store_hits,
            used.store_misses,
            remote(format!(
                " {hits:>8} {misses:>8} {:>8} {:>8}",
                received >> 20,
                sent >> 20
            )),
            stage.name
        ));
    }
    text
}

/// The trace event format, as JSON: a complete event (`X`) a stage, times in microseconds. Stages that overlap stand in rows
/// of their own.
///
/// Specification: <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>.
pub fn trace(stages: &[Stage]) -> Value {
    let mut ordered: Vec<&Stage> = stages.iter().collect();
    ordered.sort_by(|a, b| a.begin.total_cmp(&b.begin));
    // When each row is free again.
    let mut rows: Vec<f64> = Vec::new();
    let events = ordered.into_iter().map(|stage| {
        let free = rows.iter().position(|end| *end <= stage.begin);
        let row = free.unwrap_or(rows.len());
        let end = stage.begin + stage.seconds;
        match rows.get_mut(row) {
            Some(busy) => *busy = end,
            None => rows.push(end),
        }
        json!({
            "name": stage.name,
            "cat": "stage",
            "ph": "X",
            "pid": 1,
            "tid": row + 1,
            "ts": stage.begin * 1e6,
            "dur": stage.seconds * 1e6,
            "args": { "result": stage.result, "used": stage.used },
        })
    });
    let events: Vec<_> = events.collect();
    json!({ "traceEvents": events, "displayTimeUnit": "ms" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::progress::Used;
    use crate::report::traffic::Counters;

    #[test]
    fn overlapping_stages_have_rows_of_their_own() {
        let stage = |name: &str, begin: f64, seconds: f64| Stage {
            name: name.to_owned(),
            result: String::new(),
            begin,
            seconds,
            used: Used::default(),
        };
        // In the order of their ends.
        let stages = [
            stage("b", 1.0, 1.0),
            stage("a", 0.0, 3.0),
            stage("c", 2.5, 1.0),
            stage("d", 3.5, 0.5),
        ];
        let trace = trace(&stages);
        let events = trace["traceEvents"].as_array().unwrap();
        let shown: Vec<_> = events
            .iter()
            .map(|event| (event["name"].as_str().unwrap(), event["tid"].as_u64().unwrap()))
            .collect();
        assert_eq!(shown, [("a", 1), ("b", 2), ("c", 2), ("d", 1)]);
        assert_eq!(events[1]["ts"], 1e6);
        assert_eq!(events[1]["dur"], 1e6);
        let table = table(&stages);
        assert!(table.lines().nth(2).unwrap().ends_with("  a"), "{table}");
        assert!(!table.contains("up MiB"), "{table}");
    }

    #[test]
    fn the_remote_store_has_columns_where_there_is_one() {
        let counters = Counters::default();
        assert_eq!(counters.looked_for(Some(1)), Some(1));
        assert_eq!(counters.looked_for(None::<()>), None);
        counters.received(3 << 20);
        let before = counters.so_far();
        counters.sent(5 << 20);
        let stage = |remote| Stage {
            name: "a".to_owned(),
            result: String::new(),
            begin: 0.0,
            seconds: 0.0,
            used: Used {
                remote,
                ..Used::default()
            },
        };
        let stages = [stage(before), stage(counters.so_far() - before)];
        let table = table(&stages);
        let ends = [
            "misses  r. hits  r. miss down MiB   up MiB  stage",
            "0        1        1        3        0  a",
            "0        0        0        0        5  a",
        ];
        for (line, end) in table.lines().zip(ends) {
            assert!(line.ends_with(end), "{table}");
        }
        let json = serde_json::to_value(&stages[0]).unwrap();
        let keys = ["hits", "misses", "bytes_received", "bytes_sent"];
        let found = keys.map(|key| json[format!("remote_{key}")].as_u64());
        assert_eq!(found, [Some(1), Some(1), Some(3 << 20), Some(0)]);
    }
}
