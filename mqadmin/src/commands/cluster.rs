//! clusterList.

use std::{collections::BTreeMap, time::Duration};

use gantry_message::Millis;

use crate::session::{Failure, Session};

type Figures = BTreeMap<String, String>;

/// clusterList: one row a broker, once or every `-i` seconds for ever.
pub async fn list(session: &mut Session<'_>) -> Result<(), Failure> {
    let interval: Option<u64> = match session.arguments.has('i') {
        true => Some(session.arguments.number('i', 1)?),
        false => None,
    };
    loop {
        round(session).await?;
        let Some(seconds) = interval else {
            return Ok(());
        };
        session.flush()?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

async fn round(session: &mut Session<'_>) -> Result<(), Failure> {
    let more = session.arguments.has('m');
    let info = session.client.cluster_info().await?;
    session.line(if more { more_header() } else { base_header() })?;
    for (cluster, names) in &info.cluster_addr_table {
        for data in names
            .iter()
            .filter_map(|name| info.broker_addr_table.get(name))
        {
            for (id, address) in &data.broker_addrs {
                let figures = match session.client.runtime_info(address).await {
                    Ok(answer) => Some(answer.table),
                    Err(error) => {
                        session.report(format_args!(
                            "{address} ({}, id {id}): {error}",
                            data.broker_name
                        ));
                        None
                    }
                };
                let row = if more {
                    more_row(cluster, &data.broker_name, figures.as_ref())
                } else {
                    base_row(
                        [cluster, &data.broker_name, &id.to_string(), address],
                        figures.as_ref(),
                        Millis::now(),
                    )
                };
                session.line(row)?;
            }
        }
    }
    Ok(())
}

fn base_header() -> String {
    base_line([
        "#Cluster Name",
        "#Broker Name",
        "#BID",
        "#Addr",
        "#Version",
        "#InTPS(LOAD)",
        "#OutTPS(LOAD)",
        "#PCWait(ms)",
        "#Hour",
        "#SPACE",
    ])
}

fn base_line(cells: [&str; 10]) -> String {
    let [
        cluster,
        broker,
        id,
        address,
        version,
        input,
        output,
        wait,
        hour,
        space,
    ] = cells;
    format!(
        "{cluster:<16}  {broker:<22}  {id:<4}  {address:<22} {version:<16} {input:>19} {output:>19} {wait:>10} {hour:>5} \
         {space:>6}"
    )
}

/// A broker without answer has empty texts and zeros.
fn base_row(who: [&str; 4], figures: Option<&Figures>, now: Millis) -> String {
    let text = |name| match figures {
        // What a broker does not tell, Java prints as `null`.
        Some(figures) => figures.get(name).map_or("null", String::as_str),
        None => "",
    };
    let load = |tps, size, wait| {
        format!(
            "{:9.2}({},{}ms)",
            first_number(text(tps)),
            text(size),
            text(wait)
        )
    };
    let input = load(
        "putTps",
        "sendThreadPoolQueueSize",
        "sendThreadPoolQueueHeadWaitTimeMills",
    );
    let output = load(
        "getTransferedTps",
        "pullThreadPoolQueueSize",
        "pullThreadPoolQueueHeadWaitTimeMills",
    );
    let oldest: Option<i64> = text("earliestMessageTimeStamp").parse().ok();
    // The figure is for reading; what a double cannot hold of the milliseconds does not show in two decimals.
    let hours = oldest.map_or(0.0, |oldest| now.since(Millis(oldest)) as f64 / 3_600_000.0);
    let space: f64 = text("commitLogDiskRatio").parse().unwrap_or(0.0);
    let [cluster, broker, id, address] = who;
    base_line([
        cluster,
        broker,
        id,
        address,
        text("brokerVersionDesc"),
        &input,
        &output,
        text("pageCacheLockTimeMills"),
        &format!("{hours:2.2}"),
        &format!("{space:.4}"),
    ])
}

fn first_number(numbers: &str) -> f64 {
    numbers
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0.0)
}

fn more_header() -> String {
    more_line(
        "#Cluster Name",
        "#Broker Name",
        [
            "#InTotalYest",
            "#OutTotalYest",
            "#InTotalToday",
            "#OutTotalToday",
        ],
    )
}

fn more_line(cluster: &str, broker: &str, cells: [impl std::fmt::Display; 4]) -> String {
    let [put_before, got_before, put, got] = cells;
    format!("{cluster:<16}  {broker:<32} {put_before:>14} {got_before:>14} {put:>14} {got:>14}")
}

/// A broker that lacks any of the six figures has zeros.
fn more_row(cluster: &str, broker: &str, figures: Option<&Figures>) -> String {
    let number = |name| -> Option<i64> { figures?.get(name)?.parse().ok() };
    let since = |to, from| Some(number(to)?.wrapping_sub(number(from)?));
    let cells = || {
        Some([
            since("msgPutTotalTodayMorning", "msgPutTotalYesterdayMorning")?,
            since("msgGetTotalTodayMorning", "msgGetTotalYesterdayMorning")?,
            since("msgPutTotalTodayNow", "msgPutTotalTodayMorning")?,
            since("msgGetTotalTodayNow", "msgGetTotalTodayMorning")?,
        ])
    };
    more_line(cluster, broker, cells().unwrap_or([0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rows: &[(&str, &str)]) -> Figures {
        rows.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_broker_that_answers_shows_its_load() {
        let answer = figures(&[
            ("putTps", "0.199 0.2 0.3"),
            ("getTransferedTps", "12345.678 0.0 0.0"),
            ("sendThreadPoolQueueSize", "0"),
            ("pullThreadPoolQueueSize", "7"),
            ("sendThreadPoolQueueHeadWaitTimeMills", "1"),
            ("pullThreadPoolQueueHeadWaitTimeMills", "2"),
            ("pageCacheLockTimeMills", "0"),
            ("earliestMessageTimeStamp", "1000000"),
            ("commitLogDiskRatio", "0.38012"),
            ("brokerVersionDesc", "V4_9_8"),
        ]);
        let row = base_row(
            ["DefaultCluster", "broker-a", "0", "10.0.0.2:10911"],
            Some(&answer),
            Millis(10_324_000),
        );
        let expected = [
            "DefaultCluster    broker-a                0     10.0.0.2:10911         V4_9_8                   0.20(0,1ms)",
            "    12345.68(7,2ms)          0  2.59 0.3801",
        ];
        assert_eq!(row, expected.join(" "));
    }

    #[test]
    fn a_broker_without_answer_has_a_row_of_zeros() {
        let row = base_row(
            ["DefaultCluster", "broker-a", "1", "10.0.0.3:10911"],
            None,
            Millis(0),
        );
        let expected = [
            "DefaultCluster    broker-a                1     10.0.0.3:10911                                    0.00(,ms)",
            "          0.00(,ms)             0.00 0.0000",
        ];
        assert_eq!(row, expected.join(" "));
        assert!(
            more_row("C", "b", None).ends_with("0              0              0              0")
        );
    }

    #[test]
    fn daily_counters_are_differences() {
        let answer = figures(&[
            ("msgPutTotalYesterdayMorning", "100"),
            ("msgPutTotalTodayMorning", "120100"),
            ("msgPutTotalTodayNow", "125500"),
            ("msgGetTotalYesterdayMorning", "0"),
            ("msgGetTotalTodayMorning", "118000"),
            ("msgGetTotalTodayNow", "123399"),
        ]);
        assert_eq!(
            more_row("DefaultCluster", "broker-a", Some(&answer)),
            "DefaultCluster    broker-a                                 120000         118000           5400           5399"
        );
        assert!(
            more_row("C", "b", Some(&figures(&[("msgPutTotalTodayNow", "1")]))).ends_with(" 0")
        );
    }
}
