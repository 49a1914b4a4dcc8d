//! Taking up a configuration that was read again (SIGHUP): only keys that may change while the daemon runs.
//!
//! Reading it is the business of `main`; what needs a restart is left as it is and named.

use gantry_config::{Change, Settings};

use crate::config::NamesrvConfig;
use crate::live::Live;

/// What a reload did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys that have a new value now.
    pub taken_up: Vec<&'static str>,
    /// Keys whose new value needs a restart.
    pub need_restart: Vec<&'static str>,
}

/// Moves what may be moved from `fresh` into `settings`.
pub fn take_up(settings: &Live<NamesrvConfig>, fresh: &NamesrvConfig) -> Reloaded {
    let moved = settings.change(|current| {
        let mut next = current.clone();
        let mut done = Reloaded::default();
        for row in NamesrvConfig::rows() {
            let Some(text) = fresh
                .text(row.name)
                .filter(|text| current.text(row.name).as_ref() != Some(text))
            else {
                continue;
            };
            if row.rule.change == Change::Restart {
                done.need_restart.push(row.name);
            } else if let Some(Ok(())) = next.set(row.name, &text) {
                done.taken_up.push(row.name);
            }
        }
        Ok::<_, std::convert::Infallible>((next, done))
    });
    match moved {
        Ok(done) => done,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_config::Host;

    #[test]
    fn live_keys_are_taken_up_and_the_others_named() {
        let settings = Live::new(NamesrvConfig::defaults(&Host::described()));
        let mut fresh = (*settings.get()).clone();
        assert_eq!(take_up(&settings, &fresh), Reloaded::default());
        fresh.server.admin_open = false;
        fresh.order_message_enable = true;
        fresh.server.listen_port = 1;
        let done = take_up(&settings, &fresh);
        assert_eq!(done.need_restart, ["listenPort"]);
        assert_eq!(done.taken_up.len(), 2);
        let now = settings.get();
        assert_eq!(
            (
                now.server.admin_open,
                now.order_message_enable,
                now.server.listen_port
            ),
            (false, true, 9876)
        );
    }
}
