//! Two transcripts of the same scenarios, side by side.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, bail};

/// A transcript cut into scenarios: each begins with a line `== name`.
pub fn scenarios(text: &str) -> BTreeMap<String, String> {
    let mut parts = BTreeMap::new();
    let mut current: Option<&mut String> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            current = Some(parts.entry(name.to_owned()).or_insert_with(String::new));
        } else if let Some(part) = current.as_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts
}

/// Compares what Apache's servers and Gantry led to; an error shows every scenario that differs, line by line.
pub fn compare(apache: &BTreeMap<String, String>, gantry: &BTreeMap<String, String>) -> Result<()> {
    let mut report = String::new();
    let mut names: Vec<&String> = apache.keys().chain(gantry.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let left = apache
            .get(name)
            .map_or("no such scenario\n", String::as_str);
        let right = gantry
            .get(name)
            .map_or("no such scenario\n", String::as_str);
        if !alike(name, left, right) {
            let _ = writeln!(
                report,
                "== {name} (- Apache, + Gantry)\n{}",
                difference(left, right)
            );
        }
    }
    if !report.is_empty() {
        bail!("observable results differ\n{report}");
    }
    Ok(())
}

/// Equal, but for refusals: there ours may say more behind Apache's words, such as the value that broke a limit.
fn alike(name: &str, apache: &str, gantry: &str) -> bool {
    if !name.contains("refused") {
        return apache == gantry;
    }
    let lines = (apache.lines(), gantry.lines());
    lines.0.clone().count() == lines.1.clone().count()
        && lines
            .0
            .zip(lines.1)
            .all(|(a, g)| g.starts_with(a.trim_end()))
}

/// Lines of which only one side has, or has elsewhere, with `-` and `+`; common lines are left out.
pub fn difference(left: &str, right: &str) -> String {
    let a: Vec<&str> = left.lines().collect();
    let b: Vec<&str> = right.lines().collect();
    // Longest common subsequence, as tables of this size allow.
    let mut longest = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i][j] = if a[i] == b[j] {
                longest[i + 1][j + 1] + 1
            } else {
                longest[i + 1][j].max(longest[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut report = String::new();
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            i += 1;
            j += 1;
        } else if j == b.len() || (i < a.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            let _ = writeln!(report, "- {}", a[i]);
            i += 1;
        } else {
            let _ = writeln!(report, "+ {}", b[j]);
            j += 1;
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::{compare, difference, scenarios};

    #[test]
    fn equal_transcripts_pass_and_a_changed_line_is_shown() {
        let one = scenarios("== a\nx\ny\n== b\nz\n");
        compare(&one, &scenarios("== b\nz\n== a\nx\ny\n")).unwrap();
        let error = compare(&one, &scenarios("== a\nx\nY\n== b\nz\n")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("== a (- Apache, + Gantry)\n- y\n+ Y"),
            "{error}"
        );
        assert!(!error.to_string().contains("== b"), "{error}");
    }

    #[test]
    fn a_missing_scenario_is_a_difference() {
        let one = scenarios("== a\nx\n");
        assert!(compare(&one, &scenarios("")).is_err());
        assert!(compare(&scenarios(""), &one).is_err());
    }

    #[test]
    fn a_refusal_may_say_more_than_apache_s_but_not_less() {
        let apache = scenarios("== refused\nsend: code 13, too large.\n");
        compare(
            &apache,
            &scenarios("== refused\nsend: code 13, too large. 5 bytes\n"),
        )
        .unwrap();
        assert!(compare(&apache, &scenarios("== refused\nsend: code 13, too\n")).is_err());
        assert!(compare(&apache, &scenarios("== refused\n")).is_err());
    }

    #[test]
    fn moved_and_added_lines_are_named() {
        assert_eq!(difference("a\nb\nc\n", "a\nc\nd\n"), "- b\n+ d\n");
    }
}
