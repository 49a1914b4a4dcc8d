//! Whoever follows a runbook at night must not be told to type what does not exist.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use gantry_mqadmin::{
    arguments::COMMON,
    table::{COMMANDS, Command},
};

/// Every page that tells what to type; the page about the tool itself also tells what Apache's has.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut pages = vec![root.join("systemd/README.md"), root.join("README.md")];
    for folder in ["docs", "docs/runbooks"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let is_page = path.extension().is_some_and(|ending| ending == "md");
            if is_page && !path.ends_with("docs/mqadmin.md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// What is wrong with `mqadmin` and these words behind it.
fn fault(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let Some(command) = Command::find(name).filter(|command| command.run.is_some()) else {
        return Some(format!("no command {name}"));
    };
    let unknown = words
        .filter_map(|word| word.strip_prefix('-'))
        .find(|option| {
            let mut all = command.options.iter().chain(&COMMON);
            !all.any(|one| *option == one.short.to_string() || *option == format!("-{}", one.long))
        });
    unknown.map(|option| format!("{name} has no option -{option}"))
}

#[test]
fn every_command_that_a_page_names_is_there_with_its_options() {
    let mut seen = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("`mqadmin ") {
            let line = text[at..].trim_start_matches("`mqadmin ");
            let line = line.split('`').next().unwrap();
            // Apache's tool has more.
            if text[..at].ends_with("Apache's ") {
                continue;
            }
            seen += 1;
            let fault = fault(line);
            assert_eq!(fault, None, "{}: mqadmin {line}", page.display());
        }
    }
    assert!(15 < seen, "{seen}");
}

#[test]
fn what_is_not_there_is_found() {
    assert!(COMMANDS.iter().any(|command| command.run.is_none()));
    assert_eq!(fault("clusterList -n NAMESERVER"), None);
    assert!(fault("deleteSubGroup").is_some());
    assert!(fault("clusterList -z").is_some());
    assert!(fault("clusterLst").is_some());
}
