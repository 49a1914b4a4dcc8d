//! Documents made from a key table: the reference in Markdown, samples with every key commented out, and the chapters of
//! a manual page.

use std::fmt::Write;

use gantry_manual::Chapter;

use crate::foreign;
use crate::load::env_names;
use crate::settings::{Change, Host, Kind, Row, Settings, Verdict};

/// The reference: one table per section.
pub fn markdown<C: Settings>() -> String {
    let config = C::defaults(&Host::described());
    let mut out = String::new();
    for (section, rows) in sections::<C>() {
        // Writing into a String cannot fail, here and below.
        let _ = write!(
            out,
            "### {section}\n\n| key | allowed | default | meaning |\n|---|---|---|---|\n"
        );
        for row in rows {
            let default = cell(&default_of(&config, row));
            let default = if default.is_empty() {
                "(none)".into()
            } else {
                format!("`{default}`")
            };
            let (name, allowed, meaning) =
                (marked_name(row), cell(&row.allowed()), cell(&meaning(row)));
            let _ = writeln!(out, "| {name} | {allowed} | {default} | {meaning} |");
        }
        out.push('\n');
    }
    out
}

/// Keys that are tolerated though no table holds them.
pub fn foreign_markdown() -> String {
    let mut out = String::from("| key | why nothing comes of it |\n|---|---|\n");
    for (key, reason) in foreign::KEYS {
        let _ = writeln!(out, "| `{key}` | {} |", cell(reason));
    }
    out
}

/// A TOML file with every key that does something, commented out, at its default.
pub fn sample_toml<C: Settings>(introduction: &str) -> String {
    let config = C::defaults(&Host::described());
    let mut out = String::new();
    for line in introduction.lines() {
        let _ = writeln!(out, "{}", format!("# {line}").trim_end());
    }
    for (section, rows) in sections::<C>() {
        let honoured: Vec<&Row> = rows
            .into_iter()
            .filter(|row| !matches!(row.rule.verdict, Verdict::WithoutEffect(_)))
            .collect();
        if honoured.is_empty() {
            continue;
        }
        let _ = write!(out, "\n## {section}\n");
        for row in honoured {
            let _ = write!(
                out,
                "\n# {}\n# Allowed: {}.\n",
                row.description(),
                row.allowed()
            );
            let _ = match row.rule.shown {
                Some(words) => write!(out, "# Default: {words}.\n#{} =\n", row.name),
                None => writeln!(out, "#{} = {}", row.name, toml_value(&config, row)),
            };
        }
    }
    out
}

/// Every key that does something, for a manual page.
pub fn chapters<C: Settings>() -> Vec<Chapter> {
    let config = C::defaults(&Host::described());
    let chapter = |(section, rows): (&str, Vec<&Row>)| Chapter {
        title: section.to_uppercase(),
        text: Vec::new(),
        items: rows
            .into_iter()
            .filter(|row| !matches!(row.rule.verdict, Verdict::WithoutEffect(_)))
            .map(|row| (row.name.to_owned(), item(&config, row)))
            .collect(),
    };
    sections::<C>()
        .into_iter()
        .map(chapter)
        .filter(|chapter| !chapter.items.is_empty())
        .collect()
}

fn item<C: Settings>(config: &C, row: &Row) -> String {
    let default = default_of(config, row);
    let default = match default.as_str() {
        "" => "none",
        text => text,
    };
    let meaning = meaning(row).replace('`', "").replace("**", "");
    format!("{meaning} Allowed: {}. Default: {default}.", row.allowed())
}

fn sections<C: Settings>() -> Vec<(&'static str, Vec<&'static Row>)> {
    let mut sections: Vec<(&'static str, Vec<&'static Row>)> = Vec::new();
    for row in C::rows() {
        match sections.iter_mut().find(|(name, _)| *name == row.section) {
            Some((_, rows)) => rows.push(row),
            None => sections.push((row.section, vec![row])),
        }
    }
    sections
}

fn default_of<C: Settings>(config: &C, row: &Row) -> String {
    row.rule
        .shown
        .map_or_else(|| config.text(row.name).unwrap_or_default(), str::to_owned)
}

fn toml_value<C: Settings>(config: &C, row: &Row) -> String {
    let text = config.text(row.name).unwrap_or_default();
    match row.kind {
        Kind::Text | Kind::Choice(_) => format!("\"{text}\""),
        Kind::Integer | Kind::Decimal | Kind::Switch => text,
    }
}

fn marked_name(row: &Row) -> String {
    let important = if row.rule.important { " (i)" } else { "" };
    let ours = if row.rule.since == "4.x" {
        String::new()
    } else {
        format!("<br>since {}", row.rule.since)
    };
    format!("`{}`{important}{ours}", row.name)
}

fn meaning(row: &Row) -> String {
    let mut text = row.description();
    match row.rule.verdict {
        Verdict::Honoured => {}
        Verdict::WithoutEffect(reason) => {
            let _ = write!(text, " *Accepted, without effect: {reason}.*");
        }
        Verdict::Only(value, reason) => {
            let _ = write!(text, " *Only `{value}`: {reason}.*");
        }
    }
    match row.rule.change {
        Change::Update if row.rule.verdict == Verdict::Honoured => {
            text.push_str(" Changeable at run time.")
        }
        Change::Reload => text.push_str(" Taken up by a reload."),
        Change::Update | Change::Restart => {}
    }
    let variables: Vec<String> = env_names(row).map(|name| format!("`{name}`")).collect();
    if !variables.is_empty() {
        let _ = write!(text, " Variable: {}.", variables.join(", "));
    }
    let others: Vec<String> = row
        .rule
        .aliases
        .iter()
        .chain(row.rule.misspellings)
        .map(|name| format!("`{name}`"))
        .collect();
    if !others.is_empty() {
        let _ = write!(text, " Also: {}.", others.join(", "));
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// `text` with another content between `<!-- begin NAME -->` and `<!-- end NAME -->`; `None` if they are not there.
pub fn replace_part(text: &str, name: &str, content: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- begin {name} -->\n"),
        format!("<!-- end {name} -->"),
    );
    let from = text.find(&begin)?.checked_add(begin.len())?;
    let to = text.get(from..)?.find(&end)?.checked_add(from)?;
    Some(format!(
        "{}\n{}\n{}",
        text.get(..from)?,
        content.trim_end(),
        text.get(to..)?
    ))
}
