//! `cargo xtask sim`: plays seeds of the simulation.

use anyhow::{Result, bail};

use crate::shell::{self, cargo, only_options, option};

/// One seed with every event that happens in it, or as many seeds from the first on as wanted.
pub(crate) fn run(args: &[String]) -> Result<()> {
    only_options(args, &[], &["--seed", "--seeds", "--first", "--broken"])?;
    let variables = [
        ("--seed", "GANTRY_SEED"),
        ("--seeds", "GANTRY_SEEDS"),
        ("--first", "GANTRY_SEED_FIRST"),
        ("--broken", "GANTRY_BROKEN"),
    ];
    let mut test = cargo(["test", "--quiet", "-p", "gantry-sim", "--test", "seeds"]);
    test.args(["whatever_happens", "--", "--nocapture"]);
    for (name, variable) in variables {
        let Some(value) = option(args, name)? else {
            continue;
        };
        if name != "--broken" && value.parse::<u64>().is_err() {
            bail!("{name} {value}: a number is wanted");
        }
        test.env(variable, value);
    }
    shell::run(&mut test)
}
