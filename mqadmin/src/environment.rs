//! Where the name servers' addresses come from when `-n` does not give them.
//!
//! As RocketMQ's tool: `-n`, then the property `rocketmq.namesrv.addr` (scripts put it into `JAVA_OPT`), then
//! `NAMESRV_ADDR`. What it would do then, ask a public host over HTTP, we do not.

use gantry_client::NameServers;

const JAVA_PROPERTY: &str = "-Drocketmq.namesrv.addr=";

/// The variables that count.
#[derive(Debug, Default)]
pub struct Environment {
    /// `NAMESRV_ADDR`.
    pub namesrv_addr: Option<String>,
    /// `JAVA_OPT`.
    pub java_opt: Option<String>,
}

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self {
            namesrv_addr: std::env::var("NAMESRV_ADDR").ok(),
            java_opt: std::env::var("JAVA_OPT").ok(),
        }
    }

    /// The name servers to ask. None at all is no error yet: commands that talk to a given broker need none.
    pub fn name_servers(&self, option: Option<&str>) -> Result<NameServers, String> {
        let property = self.java_opt.as_deref().and_then(|options| {
            options
                .split_whitespace()
                .filter_map(|word| word.strip_prefix(JAVA_PROPERTY))
                .next_back()
        });
        let list = option
            .or(property)
            .or(self.namesrv_addr.as_deref())
            .unwrap_or_default();
        NameServers::parse(list).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_property_and_that_over_the_variable() {
        let environment = Environment {
            namesrv_addr: Some("c:3".into()),
            java_opt: Some("-server -Drocketmq.namesrv.addr=b:2;d:4 -Xmx1g".into()),
        };
        let list = |environment: &Environment, option| {
            environment.name_servers(option).unwrap().list().to_vec()
        };
        assert_eq!(list(&environment, Some("a:1")), ["a:1"]);
        assert_eq!(list(&environment, None), ["b:2", "d:4"]);
        assert_eq!(
            list(
                &Environment {
                    java_opt: Some("-server".into()),
                    ..environment
                },
                None
            ),
            ["c:3"]
        );
        assert!(list(&Environment::default(), None).is_empty());
    }

    #[test]
    fn an_address_without_port_is_named() {
        let error = Environment::default()
            .name_servers(Some("a:1;b"))
            .unwrap_err();
        assert!(error.contains("'b'"), "{error}");
    }
}
