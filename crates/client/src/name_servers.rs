//! The list of name servers as operators write it.

/// Addresses of name servers, in the order given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameServers(Vec<String>);

/// An address that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("name server address '{0}' is not host:port")]
pub struct BadAddress(String);

impl NameServers {
    /// Reads a list separated by `;`, `,` or blanks. Of an URL (`http://.../host:port`) what follows the last slash
    /// counts, as in Java. Empty elements are skipped.
    pub fn parse(list: &str) -> Result<Self, BadAddress> {
        let elements = list
            .split([';', ',', ' ', '\t'])
            .map(str::trim)
            .filter(|element| !element.is_empty());
        let address = |element: &str| {
            let address = element.rsplit('/').next().unwrap_or(element);
            let good = address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if good {
                Ok(address.to_owned())
            } else {
                Err(BadAddress(element.to_owned()))
            }
        };
        elements.map(address).collect::<Result<_, _>>().map(Self)
    }

    /// The addresses.
    pub fn list(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, expected: &[&str]) {
        assert_eq!(NameServers::parse(list).unwrap().list(), expected, "{list}");
    }

    #[test]
    fn every_separator_in_use_is_accepted() {
        check("a:1", &["a:1"]);
        check("a:1;b:2", &["a:1", "b:2"]);
        check("a:1,b:2", &["a:1", "b:2"]);
        check("a:1; b:2;", &["a:1", "b:2"]);
        check("[::1]:9876", &["[::1]:9876"]);
        check("http://lookup.example/a:1", &["a:1"]);
        check("", &[]);
        check(" ; ", &[]);
    }

    #[test]
    fn what_is_no_address_is_named() {
        for list in ["a", "a:", ":1", "a:port", "a:65536", "b:1;a"] {
            assert!(NameServers::parse(list).is_err(), "{list}");
        }
        assert_eq!(
            NameServers::parse("b:1;a").unwrap_err().to_string(),
            "name server address 'a' is not host:port"
        );
    }
}
