//! Completions: words of options and commands, file names where a file is meant.
//!
//! They know names only. What a cluster holds is not asked for: pressing a key must not wait for a network.

use std::fmt::Write;

use crate::{Manual, Opt, Value};

/// For bash.
pub fn bash(manual: &Manual) -> String {
    let name = &manual.name;
    let mut out = format!(
        "# bash completion of {name}, made by `{name} --generate complete-bash`\n\
         _{name}() {{\n    \
             local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} words=\n    \
             COMPREPLY=()\n"
    );
    if manual.commands.is_empty() {
        bash_options(&mut out, "    ", &manual.options);
    } else {
        let mut first: Vec<String> = manual.commands.iter().map(|c| c.name.to_owned()).collect();
        first.extend(spellings(&manual.options));
        let _ = write!(
            out,
            "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        \
                 words=\"{}\"\n    \
             else\n        \
                 case ${{COMP_WORDS[1]}} in\n",
            first.join(" ")
        );
        for command in &manual.commands {
            let _ = writeln!(out, "        {})", command.name);
            bash_options(&mut out, "            ", &command.options);
            if !command.words.is_empty() {
                let words = command.words.join(" ");
                let _ = writeln!(
                    out,
                    "            if [ \"$COMP_CWORD\" -eq 2 ]; then words=\"{words} $words\"; else compopt -o default; fi"
                );
            }
            out.push_str("            ;;\n");
        }
        if !manual.options.is_empty() {
            out.push_str("        *)\n");
            bash_options(&mut out, "            ", &manual.options);
            out.push_str("            ;;\n");
        }
        out.push_str("        esac\n    fi\n");
    }
    let _ = write!(
        out,
        "    local word\n    \
             while IFS= read -r word; do COMPREPLY+=(\"$word\"); done < <(compgen -W \"$words\" -- \"$cur\")\n\
         }}\n\
         complete -F _{name} {name}\n"
    );
    out
}

fn bash_options(out: &mut String, indent: &str, options: &[Opt]) {
    let _ = writeln!(out, "{indent}words=\"{}\"", spellings(options).join(" "));
    if options.iter().all(|option| option.value == Value::None) {
        return;
    }
    let _ = writeln!(out, "{indent}case $prev in");
    for option in options {
        let action = match option.value {
            Value::None => continue,
            Value::Text(_) => "return".to_owned(),
            Value::File => "compopt -o default; return".to_owned(),
            Value::OneOf(words) => format!("words=\"{}\"", words.join(" ")),
        };
        let _ = writeln!(
            out,
            "{indent}{}) {action} ;;",
            spellings([option]).join(" | ")
        );
    }
    let _ = writeln!(out, "{indent}esac");
}

/// `-c`, `--configFile` and so on.
fn spellings<'a>(options: impl IntoIterator<Item = &'a Opt>) -> Vec<String> {
    let both = |option: &Opt| {
        let short = option.short.map(|letter| format!("-{letter}"));
        short.into_iter().chain([format!("--{}", option.long)])
    };
    options.into_iter().flat_map(both).collect()
}

/// For zsh.
pub fn zsh(manual: &Manual) -> String {
    let name = &manual.name;
    let mut out = format!(
        "#compdef {name}\n# zsh completion of {name}, made by `{name} --generate complete-zsh`\n\n"
    );
    if manual.commands.is_empty() {
        zsh_options(&mut out, "", &manual.options);
        return out;
    }
    out.push_str("if (( CURRENT == 2 )); then\n  local -a commands\n  commands=(\n");
    for command in &manual.commands {
        let _ = writeln!(
            out,
            "    {}",
            quoted(&format!("{}:{}", command.name, command.about))
        );
    }
    out.push_str("  )\n  _describe command commands\n");
    if !manual.options.is_empty() {
        zsh_options(&mut out, "  ", &manual.options);
    }
    out.push_str("  return\nfi\nlocal command=$words[2]\ncase $command in\n");
    for command in &manual.commands {
        let _ = writeln!(out, "{})", command.name);
        out.push_str("  shift words\n  (( CURRENT-- ))\n");
        zsh_options(&mut out, "  ", &command.options);
        if !command.words.is_empty() {
            // In place of the end of the line of options.
            out.pop();
            let words = command.words.join(" ");
            let _ = writeln!(
                out,
                " \\\n    '1:command:({words})' \\\n    '*:FILE:_files'"
            );
        }
        out.push_str("  ;;\n");
    }
    if !manual.options.is_empty() {
        out.push_str("*)\n");
        zsh_options(&mut out, "  ", &manual.options);
        out.push_str("  ;;\n");
    }
    out.push_str("esac\n");
    out
}

fn zsh_options(out: &mut String, indent: &str, options: &[Opt]) {
    let _ = write!(out, "{indent}_arguments");
    for option in options {
        let about: String = option
            .about
            .chars()
            .flat_map(|c| match c {
                '[' | ']' | ':' | '\\' => vec!['\\', c],
                _ => vec![c],
            })
            .collect();
        let value = match option.value {
            Value::None => String::new(),
            Value::Text(value) => format!(":{value}: "),
            Value::File => ":FILE:_files".to_owned(),
            Value::OneOf(words) => format!(":word:({})", words.join(" ")),
        };
        let names = spellings([option]);
        for spelling in &names {
            let excluded = names.join(" ");
            let _ = write!(
                out,
                " \\\n{indent}  {}",
                quoted(&format!("({excluded}){spelling}[{about}]{value}"))
            );
        }
    }
    out.push('\n');
}

/// For fish.
pub fn fish(manual: &Manual) -> String {
    let name = &manual.name;
    let mut out =
        format!("# fish completion of {name}, made by `{name} --generate complete-fish`\n");
    let _ = writeln!(out, "complete -c {name} -f");
    let first = if manual.commands.is_empty() {
        ""
    } else {
        "__fish_use_subcommand"
    };
    for command in &manual.commands {
        let _ = writeln!(
            out,
            "complete -c {name} -n {first} -a {} -d {}",
            command.name,
            fish_quoted(&command.about)
        );
    }
    let names: Vec<&str> = manual.commands.iter().map(|command| command.name).collect();
    let no_command = match names.as_slice() {
        [] => String::new(),
        names => format!("not __fish_seen_subcommand_from {}", names.join(" ")),
    };
    fish_options(&mut out, name, &no_command, &manual.options);
    for command in manual.commands.iter().filter(|one| !one.words.is_empty()) {
        let words = command.words.join(" ");
        let condition = format!(
            "__fish_seen_subcommand_from {}; and not __fish_seen_subcommand_from {words}",
            command.name
        );
        let condition = fish_quoted(&condition);
        let _ = writeln!(
            out,
            "complete -c {name} -n {condition} -a {}",
            fish_quoted(&words)
        );
        let condition = fish_quoted(&format!("__fish_seen_subcommand_from {words}"));
        let _ = writeln!(out, "complete -c {name} -n {condition} -F");
    }
    for command in &manual.commands {
        let condition = format!("__fish_seen_subcommand_from {}", command.name);
        fish_options(&mut out, name, &condition, &command.options);
    }
    out
}

fn fish_options(out: &mut String, name: &str, condition: &str, options: &[Opt]) {
    for option in options {
        let _ = write!(out, "complete -c {name}");
        if !condition.is_empty() {
            let _ = write!(out, " -n {}", fish_quoted(condition));
        }
        if let Some(letter) = option.short {
            let _ = write!(out, " -s {letter}");
        }
        let _ = write!(out, " -l {}", option.long);
        let _ = match option.value {
            Value::None => Ok(()),
            Value::Text(_) => write!(out, " -x"),
            Value::File => write!(out, " -r -F"),
            Value::OneOf(words) => write!(out, " -x -a {}", fish_quoted(&words.join(" "))),
        };
        let _ = writeln!(out, " -d {}", fish_quoted(&option.about));
    }
}

/// In single quotes, for zsh.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// In single quotes, for fish.
fn fish_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    /// What bash offers for the words so far, the last one unfinished.
    fn offered(script: &str, name: &str, words: &[&str]) -> Vec<String> {
        let line: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let program = format!(
            "{script}\ncompopt() {{ echo files; }}\nCOMP_WORDS=({name} {})\nCOMP_CWORD={}\n_{name}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            line.join(" "),
            words.len()
        );
        let output = std::process::Command::new("bash")
            .args(["-euc", &program])
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn bash_offers_what_fits() {
        let with_commands = bash(&example());
        let mut single = example();
        single.commands.clear();
        let single = bash(&single);
        let check = |script: &str, words: &[&str], expected: &[&str]| {
            assert_eq!(offered(script, "tool", words), expected, "{words:?}");
        };
        check(&with_commands, &["ro"], &["route"]);
        check(&with_commands, &["route", "--t"], &["--topic"]);
        check(
            &with_commands,
            &["route", ""],
            &["-t", "--topic", "-h", "--help"],
        );
        check(&with_commands, &["route", "-t", ""], &[]);
        check(&with_commands, &["--l"], &["--level"]);
        check(&with_commands, &["-c", ""], &["files"]);
        check(&with_commands, &["--level", "h"], &["high"]);
        check(&with_commands, &["-c", "x", "--l"], &["--level"]);
        check(
            &with_commands,
            &["store", ""],
            &["check", "dump", "-h", "--help"],
        );
        check(&with_commands, &["store", "d"], &["dump"]);
        check(
            &with_commands,
            &["store", "dump", ""],
            &["files", "-h", "--help"],
        );
        check(&single, &["--l"], &["--level"]);
        check(&single, &["--level", "h"], &["high"]);
        check(&single, &["-c", ""], &["files"]);
    }

    #[test]
    fn zsh_and_fish_get_every_word_quoted() {
        let zsh = zsh(&example());
        assert!(zsh.starts_with("#compdef tool\n"), "{zsh}");
        for line in [
            "    'route:shows a route'\n",
            "*)\n  _arguments \\\n    '(-c --configFile)-c",
            "    '(-t --topic)--topic[the topic'\\''s name\\: it'\\''s \\[any\\]]:NAME: '",
            "    '(-c --configFile)-c[.properties or .toml]:FILE:_files'",
            "    '(--level)--level[how much]:word:(low high)'",
            "    '1:command:(check dump)' \\\n    '*:FILE:_files'\n  ;;\n",
        ] {
            assert!(zsh.contains(line), "{line} in {zsh}");
        }
        let fish = fish(&example());
        for line in [
            "complete -c tool -n '__fish_seen_subcommand_from store; and not __fish_seen_subcommand_from check dump' -a 'check dump'\n",
            "complete -c tool -n __fish_use_subcommand -a route -d 'shows a route'\n",
            "complete -c tool -n 'not __fish_seen_subcommand_from route store' -s c -l configFile -r -F -d '.properties or .toml'\n",
            "complete -c tool -n '__fish_seen_subcommand_from route' -s t -l topic -x -d 'the topic\\'s name: it\\'s [any]'\n",
            "complete -c tool -n 'not __fish_seen_subcommand_from route store' -l level -x -a 'low high' -d 'how much'\n",
        ] {
            assert!(fish.contains(line), "{line} in {fish}");
        }
    }
}
