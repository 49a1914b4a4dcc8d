//! Manual pages in the man macros, which every `man` understands.
//!
//! Pages carry no date: the same sources give the same bytes.

use std::fmt::Write;

use crate::{Manual, Opt, Value};

/// The page of a program or file.
pub fn page(manual: &Manual) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail, here and below.
    let _ = writeln!(
        out,
        ".TH {} {} \"\" \"Gantry {}\" \"Gantry\"",
        manual.name.to_uppercase().replace('-', "\\-"),
        manual.section,
        manual.version
    );
    out.push_str(".SH NAME\n");
    let _ = writeln!(out, "{} \\- {}", plain(&manual.name), plain(&manual.about));
    if !manual.synopsis.is_empty() {
        out.push_str(".SH SYNOPSIS\n");
    }
    for (at, line) in manual.synopsis.iter().enumerate() {
        if at != 0 {
            out.push_str(".br\n");
        }
        let _ = writeln!(out, "\\fB{}\\fR {}", plain(&manual.name), plain(line));
    }
    heading(&mut out, "DESCRIPTION");
    paragraphs(&mut out, &manual.description);
    if !manual.options.is_empty() {
        heading(&mut out, "OPTIONS");
        options(&mut out, &manual.options);
    }
    if !manual.commands.is_empty() {
        heading(&mut out, "COMMANDS");
    }
    for command in &manual.commands {
        let _ = writeln!(out, ".SS {}", plain(command.name));
        let _ = writeln!(out, "{}", plain(&command.about));
        options(&mut out, &command.options);
    }
    for chapter in &manual.chapters {
        heading(&mut out, &chapter.title);
        paragraphs(&mut out, &chapter.text);
        for (term, text) in &chapter.items {
            let _ = writeln!(out, ".TP\n\\fB{}\\fR\n{}", plain(term), plain(text));
        }
    }
    if !manual.see_also.is_empty() {
        heading(&mut out, "SEE ALSO");
        let pages: Vec<String> = manual.see_also.iter().map(|page| reference(page)).collect();
        let _ = writeln!(out, "{}", pages.join(", "));
    }
    out
}

fn heading(out: &mut String, title: &str) {
    let _ = writeln!(out, ".SH {}", plain(title));
}

fn paragraphs(out: &mut String, paragraphs: &[String]) {
    for (at, paragraph) in paragraphs.iter().enumerate() {
        if at != 0 {
            out.push_str(".PP\n");
        }
        let _ = writeln!(out, "{}", plain(paragraph));
    }
}

fn options(out: &mut String, options: &[Opt]) {
    for option in options {
        let mut names: Vec<String> = option
            .short
            .map(|letter| format!("\\fB\\-{letter}\\fR"))
            .into_iter()
            .collect();
        names.push(format!("\\fB\\-\\-{}\\fR", plain(option.long)));
        let value = match option.value {
            Value::None => String::new(),
            Value::Text(name) => format!(" \\fI{}\\fR", plain(name)),
            Value::File => " \\fIFILE\\fR".to_owned(),
            Value::OneOf(words) => format!(" \\fI{}\\fR", plain(&words.join("|"))),
        };
        let _ = writeln!(
            out,
            ".TP\n{}{value}\n{}",
            names.join(", "),
            plain(&option.about)
        );
    }
}

/// `mqbroker(8)` with the name in bold.
fn reference(page: &str) -> String {
    match page.split_once('(') {
        Some((name, section)) => format!("\\fB{}\\fR({section}", plain(name)),
        None => plain(page),
    }
}

/// Text that means itself: no escapes, no requests at the start of a line, hyphens that can be copied.
fn plain(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('\n', " ");
    match text.chars().next() {
        Some('.') => format!("\\&{text}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_everything_and_escapes_what_roff_would_read() {
        let expected = "\
.TH TOOL 8 \"\" \"Gantry 1.2.3\" \"Gantry\"
.SH NAME
tool \\- does things
.SH SYNOPSIS
\\fBtool\\fR [OPTIONS]
.SH DESCRIPTION
A tool \\- with a path\\ename.
.PP
\\&.dotted start
.SH OPTIONS
.TP
\\fB\\-c\\fR, \\fB\\-\\-configFile\\fR \\fIFILE\\fR
\\&.properties or .toml
.TP
\\fB\\-\\-level\\fR \\fIlow|high\\fR
how much
.TP
\\fB\\-h\\fR, \\fB\\-\\-help\\fR
print help
.SH COMMANDS
.SS route
shows a route
.TP
\\fB\\-t\\fR, \\fB\\-\\-topic\\fR \\fINAME\\fR
the topic\\(aqs name: it\\(aqs [any]
.TP
\\fB\\-h\\fR, \\fB\\-\\-help\\fR
print help
.SS store
looks into a store
.TP
\\fB\\-h\\fR, \\fB\\-\\-help\\fR
print help
.SH EXIT STATUS
.TP
\\fB0\\fR
All is well.
.SH SEE ALSO
\\fBother\\fR(1)
";
        assert_eq!(page(&crate::example()), expected);
    }
}
