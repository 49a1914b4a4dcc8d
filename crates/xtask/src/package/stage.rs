//! The files of all packages, laid out as they will lie on a host: `packaging/MANIFEST`, and what the programs
//! print about themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::dist;
use crate::shell::{self, root};

/// The programs that ship.
pub(super) const PROGRAMS: [&str; 4] = ["mqnamesrv", "mqbroker", "mqadmin", "mqbench"];

/// What a program prints with `--generate KIND`, and where it goes.
struct Made {
    kind: &'static str,
    place: fn(&str) -> String,
}

const COMPLETIONS: [Made; 3] = [
    Made {
        kind: "complete-bash",
        place: |program| format!("bash-completion/completions/{program}"),
    },
    Made {
        kind: "complete-zsh",
        place: |program| format!("zsh/vendor-completions/_{program}"),
    },
    Made {
        kind: "complete-fish",
        place: |program| format!("fish/vendor_completions.d/{program}.fish"),
    },
];

const TOOL: Made = Made {
    kind: "man",
    place: |program| format!("man/man1/{program}.1"),
};

const DAEMON: [Made; 2] = [
    Made {
        kind: "man",
        place: |program| format!("man/man8/{program}.8"),
    },
    Made {
        kind: "man-settings",
        place: |program| format!("man/man5/{program}.toml.5"),
    },
];

/// Fills `tree`.
pub(super) fn lay_out(programs: &Path, tree: &Path) -> Result<()> {
    dist::lay_out(&root().join("packaging/MANIFEST"), programs, tree)?;
    for program in PROGRAMS {
        let tool = program == "mqadmin" || program == "mqbench";
        let pages: &[Made] = if tool { &[TOOL] } else { &DAEMON };
        for made in pages.iter().chain(&COMPLETIONS) {
            let place = tree.join("usr/share").join((made.place)(program));
            make(&programs.join(program), made.kind, &place)?;
        }
    }
    Ok(())
}

/// Adds a line to every file of settings.
pub(super) fn note_in_settings(tree: &Path, note: &str) -> Result<()> {
    for file in ["etc/gantry/broker.toml", "etc/gantry/namesrv.toml"] {
        let path = tree.join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        fs::write(&path, format!("{text}{note}\n"))?;
    }
    Ok(())
}

fn make(program: &Path, kind: &str, place: &Path) -> Result<()> {
    let text = shell::output(Command::new(program).args(["--generate", kind]))?;
    ensure!(
        !text.is_empty(),
        "{} --generate {kind} prints nothing",
        program.display()
    );
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(place, text).with_context(|| place.display().to_string())?;
    Ok(fs::set_permissions(
        place,
        PermissionsExt::from_mode(0o644),
    )?)
}
