//! The `.properties` form against what `java.util.Properties` itself made of the same bytes
//! (`golden/PropertiesGolden.java`, JDK 17).

#![allow(clippy::unwrap_used, reason = "tests")]

use gantry_config::properties::{parse, write};

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn text(hex: &str) -> String {
    String::from_utf8(bytes(hex)).unwrap()
}

fn pairs(input: &[u8]) -> Option<Vec<(String, String)>> {
    let entries = parse(input).ok()?;
    Some(
        entries
            .into_iter()
            .map(|entry| (entry.key, entry.value))
            .collect(),
    )
}

#[test]
fn every_input_is_read_as_java_reads_it() {
    let golden = include_str!("golden/properties.txt");
    assert!(1_500 < golden.lines().count());
    for line in golden.lines() {
        let mut words = line.split(' ');
        let input = bytes(words.next().unwrap());
        let expected: Vec<&str> = words.collect();
        let expected = (expected != ["error"]).then(|| {
            expected
                .iter()
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (text(key), text(value)))
                .collect::<Vec<_>>()
        });
        assert_eq!(
            pairs(&input),
            expected,
            "{:?}",
            String::from_utf8_lossy(&input)
        );
    }
}

#[test]
fn what_is_written_reads_back() {
    let cases = [
        ("key", "value"),
        ("tls.server.mode", "disabled"),
        ("a b=c:d#e!f", "  x = y : z # ! "),
        ("", ""),
        ("path", "C:\\store\tx\r\n\x0c"),
        ("name", "brökér 中文 😀"),
    ];
    for (key, value) in cases {
        let mut out = String::new();
        write(&mut out, key, value);
        assert!(
            out.is_ascii() && out.ends_with('\n') && out.lines().count() == 1,
            "{out:?}"
        );
        assert_eq!(
            pairs(out.as_bytes()),
            Some(vec![(key.to_owned(), value.to_owned())])
        );
    }
}

#[test]
fn lines_are_counted_from_one_to_the_first_line_of_a_pair() {
    let entries = parse(b"# c\r\n\r\na=1\\\r\n  2\r\nb=3\rc=4\n").unwrap();
    let lines: Vec<(&str, u32)> = entries
        .iter()
        .map(|entry| (entry.key.as_str(), entry.line))
        .collect();
    assert_eq!(lines, [("a", 3), ("b", 5), ("c", 6)]);
    assert_eq!(parse(b"a=1\nb=\\u12").unwrap_err().line, 2);
}
