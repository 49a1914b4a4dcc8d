//! Layers, sources and findings, on a small table.

#![allow(clippy::unwrap_used, reason = "tests")]

use gantry_config::{
    Host, Loaded, Severity, Source, UnknownKeys, choices, plan_reload, plan_update, print,
    render_overrides, settings,
};

choices! {
    /// Ways to brew.
    pub enum Brew {
        /// Slowly.
        Slow = "SLOW",
        /// Fast.
        Fast = "FAST",
    }
}

settings! {
    /// A kettle.
    pub struct Kettle |host| {
        section "Kettle";
        /// Name.
        kettle_name: String = "kettle".into(), "kettleName" [.important()];
        /// Where water comes from.
        water_addr: Option<String> = None, "waterAddr" [.env(&["WATER_ADDR"]).aliases(&["kettle.water.addr"])];
        /// Degrees to stop at.
        stop_at: u32 = 100, "stopAt" [.between(40, 100).live().misspellings(&["stoppAt"])];
        /// How.
        brew_role: Brew = Brew::Slow, "brewRole";
        /// Share.
        fill_ratio: f64 = 0.9, "kettle.fillRatio" [.ratio(0.1, 1.0)];
        /// Whistle at the end.
        whistle_enable: bool = true, "whistleEnable" [.live()];
        /// Power in watts.
        power: u64 = 2_000, "power" [.reload()];
        /// Heats with gas.
        gas_enable: bool = false, "gasEnable" [.only("false", "there is no gas")];
        /// Pool of cups.
        cup_pool: u32 = host.cpus, "cupPool" [.without_effect("cups are not pooled")];
        /// Secret recipe.
        recipe: Option<String> = None, "recipe" [.secret()];
        /// Not changeable at run time.
        config_black_list: String = "configBlackList".into(), "configBlackList";
    }
}

fn loaded() -> Loaded<Kettle> {
    Loaded::defaults(&Host::described(), UnknownKeys::Warn)
}

fn findings(loaded: &Loaded<Kettle>) -> Vec<(Severity, &str)> {
    loaded
        .findings
        .iter()
        .map(|finding| (finding.severity, finding.text.as_str()))
        .collect()
}

fn from_file(name: &str, text: &str) -> Loaded<Kettle> {
    let mut loaded = loaded();
    loaded.file(name, text.as_bytes());
    loaded.judge();
    loaded
}

#[test]
fn the_later_layer_wins_and_is_named() {
    let variables = |name: &str| match name {
        "WATER_ADDR" => Some("env:1".to_owned()),
        "KETTLE_FILLRATIO" => Some("0.5".to_owned()),
        _ => None,
    };
    let mut loaded = loaded();
    loaded.environment(variables);
    assert_eq!(loaded.config.water_addr.as_deref(), Some("env:1"));
    assert_eq!(
        loaded.source("waterAddr"),
        Source::Environment("WATER_ADDR".into())
    );
    assert_eq!(loaded.config.fill_ratio, 0.5);

    loaded.file(
        "k.conf",
        b"# a kettle\nwaterAddr=file:1\nstopAt = 90\npower=1000\n",
    );
    assert_eq!(loaded.config.water_addr.as_deref(), Some("file:1"));
    assert_eq!(loaded.source("stopAt").to_string(), "k.conf:3");

    loaded.overrides("changes.properties", b"stopAt=80\n");
    assert_eq!(loaded.config.stop_at, 80);
    assert_eq!(
        loaded.source("stopAt").to_string(),
        "run-time change, changes.properties:1"
    );

    loaded.command_line("-n", "waterAddr", "option:1");
    assert_eq!(loaded.config.water_addr.as_deref(), Some("option:1"));
    assert_eq!(loaded.source("waterAddr").to_string(), "command line -n");
    assert_eq!(loaded.source("kettleName"), Source::Default);
    loaded.judge();
    assert_eq!(findings(&loaded), []);

    let listing = print::with_sources(&loaded);
    let first = listing.lines().next().unwrap();
    assert!(
        first.starts_with("waterAddr=option:1 ") && first.ends_with("# command line -n"),
        "{listing}"
    );
}

#[test]
fn whatever_looks_wrong_is_named_with_file_and_line() {
    use Severity::{Error, Note, Warning};
    let cases: &[(&str, Severity, &str)] = &[
        (
            "stopAT=90",
            Warning,
            "k.conf:1: unknown key stopAT, ignored; did you mean stopAt?",
        ),
        (
            "brewRote=FAST",
            Warning,
            "k.conf:1: unknown key brewRote, ignored; did you mean brewRole?",
        ),
        (
            "kettelName=x",
            Warning,
            "k.conf:1: unknown key kettelName, ignored; did you mean kettleName?",
        ),
        (
            "teaPotColour=x",
            Warning,
            "k.conf:1: unknown key teaPotColour, ignored",
        ),
        (
            "stoppAt=90",
            Warning,
            "k.conf:1: unknown key stoppAt, taken as stopAt",
        ),
        (
            "stopAt=ninety",
            Error,
            "k.conf:1: stopAt=ninety: must be a whole number from 40 to 100",
        ),
        (
            "stopAt=101",
            Error,
            "k.conf:1: stopAt=101: must be a whole number from 40 to 100",
        ),
        (
            "stopAt=",
            Error,
            "k.conf:1: stopAt=: must be a whole number from 40 to 100",
        ),
        (
            "stopAt=99999999999999999999",
            Error,
            "k.conf:1: stopAt=99999999999999999999: must be a whole number from 40 to 100",
        ),
        (
            "stopAt=90 ",
            Note,
            "k.conf:1: stopAt: blanks around 90 are ignored",
        ),
        (
            "brewRole=fast",
            Error,
            "k.conf:1: brewRole=fast: must be one of SLOW, FAST",
        ),
        (
            "whistleEnable=yes",
            Error,
            "k.conf:1: whistleEnable=yes: must be true or false",
        ),
        (
            "kettle.fillRatio=1.5",
            Error,
            "k.conf:1: kettle.fillRatio=1.5: must be a number from 0.1 to 1",
        ),
        (
            "kettle.fillRatio=NaN",
            Error,
            "k.conf:1: kettle.fillRatio=NaN: must be a number from 0.1 to 1",
        ),
        (
            "gasEnable=true",
            Error,
            "k.conf:1: gasEnable=true: only gasEnable=false is possible: there is no gas",
        ),
        (
            "cupPool=9",
            Note,
            "k.conf:1: cupPool: accepted, without effect: cups are not pooled",
        ),
        (
            "storePathConsumerQueue=/x",
            Note,
            "k.conf:1: storePathConsumerQueue: accepted, without effect: its place follows from storePathRootDir, also in RocketMQ 4.x",
        ),
        (
            "power=1\npower=2",
            Warning,
            "k.conf:2: power is also on line 1; this one counts",
        ),
        (
            "a=\\u12",
            Error,
            "k.conf:1: \\u needs four hexadecimal digits",
        ),
    ];
    for (text, severity, expected) in cases {
        let loaded = from_file("k.conf", text);
        assert_eq!(findings(&loaded), [(*severity, *expected)], "{text}");
        assert_eq!(loaded.refused(), *severity == Error, "{text}");
    }
}

#[test]
fn values_are_taken_as_rocketmq_users_write_them() {
    let cases = [
        ("whistleEnable=FALSE", "whistleEnable", "false"),
        ("kettleName=a b ", "kettleName", "a b "),
        ("stopAt=+50", "stopAt", "50"),
        ("stoppAt=50", "stopAt", "50"),
        ("kettle.water.addr=a;b", "waterAddr", "a;b"),
        ("waterAddr=", "waterAddr", ""),
        ("power=1\npower=2", "power", "2"),
    ];
    for (text, key, expected) in cases {
        let loaded = from_file("k.properties", text);
        assert_eq!(
            gantry_config::Settings::text(&loaded.config, key).unwrap(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn unknown_keys_are_errors_when_strict() {
    let mut loaded = Loaded::<Kettle>::defaults(&Host::described(), UnknownKeys::Refuse);
    loaded.file("k.conf", b"colour=red\nstoppAt=50");
    assert_eq!(
        loaded
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .count(),
        2
    );
    assert!(loaded.refused());
}

#[test]
fn toml_has_the_same_keys_and_says_its_types() {
    let good = "# kettle\nkettleName = \"k\"\nstopAt = 0x5A\nwhistleEnable = false\nbrewRole = \"FAST\"\nkettle.fillRatio = 0.5\nwaterAddr = 'a:1'\n";
    let loaded = from_file("k.toml", good);
    assert_eq!(findings(&loaded), []);
    let kettle = &loaded.config;
    assert_eq!(
        (
            kettle.kettle_name.as_str(),
            kettle.stop_at,
            kettle.whistle_enable
        ),
        ("k", 90, false)
    );
    assert_eq!(
        (
            kettle.brew_role,
            kettle.fill_ratio,
            kettle.water_addr.as_deref()
        ),
        (Brew::Fast, 0.5, Some("a:1"))
    );
    assert_eq!(loaded.source("kettle.fillRatio").to_string(), "k.toml:6");

    let bad = [
        (
            "\nwhistleEnable = \"true\"",
            "k.toml:2: whistleEnable: must be true or false, without quotes",
        ),
        (
            "stopAt = \"90\"",
            "k.toml:1: stopAt: must be a number, without quotes",
        ),
        (
            "kettleName = 5",
            "k.toml:1: kettleName: must be a text in quotes",
        ),
        (
            "brewRole = true",
            "k.toml:1: brewRole: must be a text in quotes",
        ),
        (
            "stopAt = 90.5",
            "k.toml:1: stopAt=90.5: must be a whole number from 40 to 100",
        ),
        (
            "waterAddr = [\"a\"]",
            "k.toml:1: waterAddr: a list is not a value of any key",
        ),
        (
            "power = 1979-05-27",
            "k.toml:1: power: a date or time is not a value of any key",
        ),
        (
            "power = 1\nstopAt = 90\npower = 2",
            "k.toml:3: duplicate key power",
        ),
    ];
    for (text, expected) in bad {
        let loaded = from_file("k.toml", text);
        assert_eq!(findings(&loaded), [(Severity::Error, expected)], "{text}");
    }
    for (text, line) in [
        ("power = 1\npower = 2", 2),
        ("\n\nwhistleEnable = yes", 3),
        ("x", 1),
    ] {
        let loaded = from_file("k.toml", text);
        let [finding] = loaded.findings.as_slice() else {
            panic!("{:?}", loaded.findings)
        };
        assert!(
            finding.text.starts_with(&format!("k.toml:{line}: ")),
            "{finding}"
        );
    }
    let mut latin = self::loaded();
    latin.file("k.toml", b"power = 1\nkettleName = \"\xe4\"\n");
    assert_eq!(findings(&latin), [(Severity::Error, "k.toml:2: not UTF-8")]);
}

#[test]
fn listings_read_back_and_hide_secrets() {
    let loaded = from_file("k.conf", "recipe=honey\nkettleName=C:\\\\k\nstopAt=60\n");
    let all = print::all(&loaded.config);
    assert!(
        all.contains("recipe=******\n") && !all.contains("honey"),
        "{all}"
    );
    assert!(!print::with_sources(&loaded).contains("honey"));
    assert_eq!(print::important(&loaded.config), "kettleName=C:\\\\k\n");
    let again = from_file("k.conf", &all.replace("recipe=******\n", ""));
    assert_eq!(
        again.config,
        Kettle {
            recipe: None,
            ..loaded.config
        }
    );
    let bad = from_file("k.conf", "stopAt=1\nrecipe=ok\n");
    assert!(
        bad.findings
            .iter()
            .all(|finding| !finding.text.contains("ok")),
        "{:?}",
        bad.findings
    );
}

#[test]
fn an_update_changes_what_may_be_changed_and_names_what_may_not() {
    let kettle = loaded().config;
    let update = plan_update(
        &kettle,
        b"stopAt=80\nwhistleEnable=false\nkettleName=kettle\n",
    )
    .unwrap();
    assert_eq!(
        update.changes,
        [
            ("stopAt", "80".to_owned()),
            ("whistleEnable", "false".to_owned())
        ]
    );
    assert_eq!(
        (update.config.stop_at, update.config.whistle_enable),
        (80, false)
    );
    assert_eq!(plan_update(&kettle, b"").unwrap().changes, []);
    assert_eq!(
        plan_update(&kettle, print::all(&kettle).as_bytes())
            .unwrap()
            .changes,
        []
    );
    assert_eq!(
        plan_update(&kettle, b"stopAt=80\nstopAt=100\n")
            .unwrap()
            .changes,
        []
    );

    let guarded = Kettle {
        config_black_list: "configBlackList; stopAt".into(),
        ..kettle.clone()
    };
    let refused: &[(&Kettle, &str, &str)] = &[
        (
            &kettle,
            "stopAt=10",
            "stopAt=10: must be a whole number from 40 to 100",
        ),
        (
            &kettle,
            "kettleName=x",
            "Can not update config in black list. kettleName is changed in the configuration file only, then restart",
        ),
        (
            &kettle,
            "power=1",
            "Can not update config in black list. power is changed in the configuration file only, then reload",
        ),
        (
            &kettle,
            "gasEnable=true",
            "Can not update config in black list. gasEnable is changed in the configuration file only, then restart",
        ),
        (
            &kettle,
            "configBlackList=x",
            "Can not update config in black list. configBlackList is on configBlackList",
        ),
        (&kettle, "stopAt=80\nfoo=1", "unknown key foo"),
        (
            &kettle,
            "a=\\u1",
            "string2Properties error: line 1: \\u needs four hexadecimal digits",
        ),
        (
            &guarded,
            "stopAt=80",
            "Can not update config in black list. stopAt is on configBlackList",
        ),
    ];
    for (current, text, expected) in refused {
        assert_eq!(
            plan_update(*current, text.as_bytes())
                .unwrap_err()
                .to_string(),
            *expected,
            "{text}"
        );
    }
}

#[test]
fn the_override_file_keeps_earlier_changes_and_reads_back() {
    let first = render_overrides(b"", &[("stopAt", "80".into())]).unwrap();
    let second = render_overrides(
        first.as_bytes(),
        &[("stopAt", "70".into()), ("whistleEnable", "false".into())],
    )
    .unwrap();
    let mut loaded = loaded();
    loaded.overrides("o", second.as_bytes());
    assert_eq!(findings(&loaded), []);
    assert_eq!(
        (loaded.config.stop_at, loaded.config.whistle_enable),
        (70, false)
    );
    assert_eq!(
        second.lines().filter(|line| line.starts_with('#')).count(),
        1,
        "{second}"
    );
}

#[test]
fn a_reload_takes_up_what_may_change_and_names_the_rest() {
    let running = from_file("k.conf", "stopAt=60\n").config;
    let fresh = from_file("k.conf", "power=1\nkettleName=x\n").config;
    let reload = plan_reload(&running, &fresh);
    assert_eq!(reload.taken_up, ["stopAt", "power"]);
    assert_eq!(reload.need_restart, ["kettleName"]);
    assert_eq!(
        reload.config,
        Kettle {
            kettle_name: "kettle".into(),
            ..fresh
        }
    );
}
