//! Command lines as people type them for RocketMQ.

#![allow(clippy::unwrap_used, reason = "tests")]

use gantry_config::options::{Action, Options, described, help, parse};
use gantry_manual::{Kind, Value};

fn options(line: &[&str]) -> Result<Options, String> {
    parse(line.iter().map(|word| (*word).to_owned())).map_err(|error| error.to_string())
}

fn expect(config_file: Option<&str>, name_servers: Option<&str>, action: Action) -> Options {
    Options {
        config_file: config_file.map(str::to_owned),
        name_servers: name_servers.map(str::to_owned),
        action,
        strict: false,
        ignored: Vec::new(),
    }
}

#[test]
fn options_are_taken_in_every_form_that_rocketmq_takes() {
    let run = |file, servers| expect(file, servers, Action::Run);
    let cases: &[(&[&str], Options)] = &[
        (&[], run(None, None)),
        (&["-n", "localhost:9876"], run(None, Some("localhost:9876"))),
        (&["-nlocalhost:9876"], run(None, Some("localhost:9876"))),
        (&["--namesrvAddr", "a:1;b:2"], run(None, Some("a:1;b:2"))),
        (
            &["--namesrvAddr=a:1;b:2", "-c", "x.conf"],
            run(Some("x.conf"), Some("a:1;b:2")),
        ),
        (&["--configFile", "x"], run(Some("x"), None)),
        (&["--config=x"], run(Some("x"), None)),
        (&["-configFile", "x"], run(Some("x"), None)),
        (&["-n", "a:1", "-n", "b:1"], run(None, Some("a:1"))),
        (&["-n", "-weird"], run(None, Some("-weird"))),
        (&["-p"], expect(None, None, Action::PrintAll)),
        (
            &["-m", "-c", "x"],
            expect(Some("x"), None, Action::PrintImportant),
        ),
        (&["-pc", "x"], expect(Some("x"), None, Action::PrintAll)),
        (&["-pm"], expect(None, None, Action::PrintAll)),
        (&["-h"], expect(None, None, Action::Help)),
        (
            &["--help", "-n", "a:1"],
            expect(None, Some("a:1"), Action::Help),
        ),
        (&["--printConfigItem"], expect(None, None, Action::PrintAll)),
        (&["--version"], expect(None, None, Action::Version)),
        (
            &["--check-config", "x"],
            expect(Some("x"), None, Action::Check),
        ),
        (
            &["-c", "x", "--test-config"],
            expect(Some("x"), None, Action::Test),
        ),
        (
            &["--test-config", "x"],
            expect(Some("x"), None, Action::Test),
        ),
        (
            &["--check-config", "-c", "x"],
            expect(Some("x"), None, Action::Check),
        ),
        (
            &["--generate", "complete-zsh"],
            expect(None, None, Action::Generate(Kind::Zsh)),
        ),
        (
            &["--strict"],
            Options {
                strict: true,
                ..run(None, None)
            },
        ),
        (
            &["-n", "localhost:9876", "autoCreateTopicEnable=true"],
            Options {
                ignored: vec!["autoCreateTopicEnable=true".into()],
                ..run(None, Some("localhost:9876"))
            },
        ),
        (
            &["--", "-n", "x"],
            Options {
                ignored: vec!["-n".into(), "x".into()],
                ..run(None, None)
            },
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(options(line).as_ref(), Ok(expected), "{line:?}");
    }
}

#[test]
fn a_word_that_is_no_setting_is_a_stray_one() {
    let cases: &[(&[&str], Option<&str>)] = &[
        (&["-n", "a:1", "autoCreateTopicEnable=true"], None),
        (&["docter", "-c", "x"], Some("docter")),
        (&["a=b", "-c", "x", "doctor"], Some("doctor")),
        (&["--check-config", "x"], None),
        (&["--check-config", "x", "y"], Some("y")),
        (&["--", "-n"], Some("-n")),
    ];
    for (line, expected) in cases {
        assert_eq!(options(line).unwrap().stray(), *expected, "{line:?}");
    }
}

#[test]
fn what_is_not_an_option_is_refused() {
    let cases: &[(&[&str], &str)] = &[
        (&["-x"], "Unrecognized option: -x"),
        (&["-px"], "Unrecognized option: -px"),
        (&["--nonsense"], "Unrecognized option: --nonsense"),
        (&["--c", "x"], "Ambiguous option: --c"),
        (&["-n"], "Missing argument for option: -n"),
        (&["-c"], "Missing argument for option: -c"),
        (&["--help=yes"], "Option takes no argument: help"),
        (&["-ü"], "Unrecognized option: -ü"),
        (
            &["--generate", "x"],
            "generate: x is none of man, man-settings, complete-bash, complete-zsh, complete-fish",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(options(line), Err((*expected).to_owned()), "{line:?}");
    }
}

#[test]
fn help_names_every_option() {
    let text = help("mqbroker");
    assert!(
        text.starts_with(
            "usage: mqbroker [-c <arg>] [--check-config] [--generate <arg>] [-h] [-m] [-n <arg>] [-p]"
        ),
        "{text}"
    );
    for option in [
        "-c,--configFile <arg>",
        "-n,--namesrvAddr <arg>",
        "-p,--printConfigItem",
        "-m,--printImportantConfig",
        "-h,--help",
        "   --check-config",
        "   --strict",
        "   --test-config",
    ] {
        assert!(text.contains(option), "{option} in {text}");
    }
}

#[test]
fn every_word_of_generate_is_described_and_understood() {
    let options = described();
    let row = options.iter().find(|option| option.long == "generate");
    let Value::OneOf(words) = row.unwrap().value else {
        panic!("{row:?}");
    };
    assert_eq!(words.join(", "), Kind::names());
    assert!(row.unwrap().about.ends_with(&Kind::names()));
    for word in words {
        assert!(self::options(&["--generate", word]).is_ok(), "{word}");
    }
}
