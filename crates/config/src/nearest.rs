//! Which known name an unknown one was probably meant to be.

/// The known name with the fewest typing errors between, if they are few enough to be a guess worth making.
pub(crate) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let unknown = unknown.to_ascii_lowercase();
    let limit = (unknown.chars().count() / 4).clamp(1, 5);
    known
        .map(|name| (distance(&unknown, &name.to_ascii_lowercase()), name))
        .filter(|(errors, _)| *errors <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Letters to insert, drop, change or swap with their neighbour to make `a` from `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(128).collect(), b.chars().take(128).collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if 0 < i && 0 < j && x == b[j - 1] && a[i - 1] == y {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = last;
        last = row;
    }
    last.last().copied().unwrap_or(a.len())
}
