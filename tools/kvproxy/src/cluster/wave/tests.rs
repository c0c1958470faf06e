use super::*;
use ringkv::Outcome;

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn set(key: &str, value: &str) -> Op {
    Op::Set(vec![(b(key), b(value))])
}

fn get(key: &str) -> Op {
    Op::Get(b(key))
}

/// How many commands each wave takes.
fn waves(mut ops: &[Op]) -> Vec<usize> {
    let mut sizes = Vec::new();
    while !ops.is_empty() {
        let (_, now) = next(ops);
        sizes.push(now);
        ops = &ops[now..];
    }
    sizes
}

#[test]
fn commands_about_different_keys_travel_together() {
    let ops: Vec<Op> =
        (0..64).map(|n| if n % 2 == 0 { get(&n.to_string()) } else { set(&n.to_string(), "x") }).collect();
    assert_eq!(waves(&ops), [64]);
    let (wave, _) = next(&ops);
    assert_eq!((wave.reads.len(), wave.sets.len()), (32, 32));
}

#[test]
fn what_depends_on_an_earlier_command_waits_for_it() {
    let remove = |key: &str| Op::Remove(vec![b(key)]);
    assert_eq!(waves(&[set("a", "1"), get("a"), get("b"), set("a", "2")]), [1, 2, 1]);
    assert_eq!(waves(&[get("a"), Op::Mget(vec![b("b"), b("a")]), remove("a"), remove("a"), get("a")]), [2, 1, 1, 1]);
    assert_eq!(waves(&[set("a", "1"), Op::Exists(vec![b("b"), b("a")])]), [1, 1]);
    assert_eq!(waves(&[remove("a"), set("a", "1"), Op::Strlen(b("a"))]), [1, 1, 1]);
}

#[test]
fn sets_of_one_key_are_one_write_of_the_last_value_and_reads_one_read() {
    let ops = [set("a", "1"), Op::Set(vec![(b("b"), b("1")), (b("b"), b("2"))]), set("a", "3"), get("c"), get("c")];
    let (wave, now) = next(&ops);
    assert_eq!(now, 5);
    assert_eq!(wave.sets, [(b("a"), b("3")), (b("b"), b("2"))]);
    assert_eq!(wave.reads, [b("c")]);
}

fn answer(done: &Done, op: &Op) -> String {
    let mut out = Vec::new();
    done.answer(op, Version::Two, &mut out);
    String::from_utf8(out).unwrap()
}

fn closed<T>(outcome: Outcome) -> Result<T, Error> {
    Err(Error::Closed { outcome })
}

#[test]
fn errors_say_what_became_of_a_write() {
    let ops = [set("a", "1"), set("b", "1"), Op::Set(vec![(b("a"), b("1")), (b("b"), b("1"))])];
    let said = |results: [Result<Written, Error>; 2]| {
        let (wave, _) = next(&ops);
        let done = Done { uses: wave.uses, found: vec![], written: results.into(), removed: vec![], answer_bytes: 0 };
        ops.each_ref().map(|op| answer(&done, op).split(' ').next().unwrap().trim().to_owned())
    };
    let written = || Ok(Written { version: 1 });
    assert_eq!(said([written(), written()]), ["+OK"; 3]);
    assert_eq!(said([written(), closed(Outcome::NotApplied)]), ["+OK", "-NOTAPPLIED", "-UNKNOWN"]);
    assert_eq!(said([closed(Outcome::NotApplied), closed(Outcome::NotApplied)]), ["-NOTAPPLIED"; 3]);
    assert_eq!(said([closed(Outcome::NotApplied), closed(Outcome::Unknown)]), ["-NOTAPPLIED", "-UNKNOWN", "-UNKNOWN"]);
    assert_eq!(said([closed(Outcome::Applied), written()]), ["+OK"; 3], "applied, though the answer is gone");
    assert_eq!(said([Err(Error::KeySize { bytes: 0 }), written()])[0], "-ERR", "the caller's own");
}

#[test]
fn removed_keys_are_counted_once() {
    let op = Op::Remove(vec![b("a"), b("b"), b("a"), b("c")]);
    let (wave, _) = next(std::slice::from_ref(&op));
    assert_eq!(wave.removes, [b("a"), b("b"), b("c")]);
    let done = |removed| Done {
        uses: next(std::slice::from_ref(&op)).0.uses,
        found: vec![],
        written: vec![],
        removed,
        answer_bytes: 0,
    };
    assert_eq!(answer(&done(vec![Ok(true), Ok(false), Ok(true)]), &op), ":2\r\n");
    assert!(answer(&done(vec![Ok(true), closed(Outcome::NotApplied), Ok(true)]), &op).starts_with("-UNKNOWN 2 of 3"));
}

#[test]
fn what_was_found_is_told_in_the_form_asked() {
    let value = |text: &str| Found::Got(Ok(Some(Value { value: b(text), version: 1 })));
    let ops = [Op::Mget(vec![b("a"), b("b")]), Op::Strlen(b("a")), Op::Exists(vec![b("a"), b("b"), b("a")])];
    let (wave, _) = next(&ops);
    let done = Done {
        uses: wave.uses,
        found: vec![value("xyz"), Found::Got(Ok(None))],
        written: vec![],
        removed: vec![],
        answer_bytes: 6,
    };
    assert_eq!(answer(&done, &ops[0]), "*2\r\n$3\r\nxyz\r\n$-1\r\n");
    assert_eq!(answer(&done, &ops[1]), ":3\r\n");
    assert_eq!(answer(&done, &ops[2]), ":2\r\n");
    let often = |times| Op::Mget(vec![b("a"); times]);
    assert_eq!(answer(&done, &often(2)), "*2\r\n$3\r\nxyz\r\n$3\r\nxyz\r\n");
    assert!(answer(&done, &often(3)).starts_with("-ERR "), "found once, told too often");
    let done = Done { found: vec![value("xyz"), Found::TooMuch], ..done };
    assert!(answer(&done, &ops[0]).starts_with("-ERR "), "no half of an answer");
}
