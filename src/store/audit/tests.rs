use proptest::prelude::*;

use super::*;

fn entry(n: u64) -> AuditEntry {
    let texts = ["who", "from", "action", "target", "detail"].map(|name| format!("{name} {n}"));
    let [who, from, action, target, detail] = texts;
    AuditEntry { at: Timestamp(n as i64), who, from, action, target, detail }
}

fn append(chain: &mut Vec<AuditLine>, after: AuditMark, entry: AuditEntry) {
    let last = chain.last().map_or(after, AuditLine::mark);
    chain.push(AuditLine::following(last.seq + 1, last.hash, entry));
}

fn chain_of(lines: u64) -> Vec<AuditLine> {
    let mut chain = Vec::new();
    (1..=lines).for_each(|n| append(&mut chain, AuditMark::default(), entry(n)));
    chain
}

/// Forgets the first lines of a chain, as the store does.
fn forget(chain: &mut Vec<AuditLine>, lines: usize) -> AuditMark {
    let anchor = chain.drain(..lines).next_back().unwrap().mark();
    append(chain, anchor, forgotten_up_to(anchor, Timestamp(0)));
    anchor
}

fn verdict(anchor: AuditMark, chain: &[AuditLine], head: AuditMark) -> AuditVerdict {
    let mut verifier = Verifier::behind(Some(anchor));
    chain.iter().for_each(|line| verifier.see(line));
    verifier.finish(Some(head))
}

fn head(chain: &[AuditLine]) -> AuditMark {
    chain.last().unwrap().mark()
}

#[test]
fn a_chain_is_intact_also_when_its_beginning_was_forgotten_more_than_once() {
    let mut chain = chain_of(9);
    assert_eq!(verdict(AuditMark::default(), &chain, head(&chain)).broken, None);
    let mut anchor = AuditMark::default();
    for lines in [3, 1, 6, 2] {
        anchor = forget(&mut chain, lines);
        let verdict = verdict(anchor, &chain, head(&chain));
        assert_eq!((verdict.broken, verdict.first_seq), (None, Some(anchor.seq + 1)));
    }
    assert_eq!(verdict(anchor, &chain, head(&chain)).lines, 1);
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let chain = chain_of(5);
    let none = AuditMark::default();
    let why = |anchor, lines: &[AuditLine], head| verdict(anchor, lines, head).broken.unwrap();
    let without_third: Vec<AuditLine> = chain.iter().filter(|line| line.seq != 3).cloned().collect();
    assert_eq!(why(none, &without_third, head(&chain)), AuditBreak { seq: 3, sentence: "line 3 is missing".to_owned() });
    assert_eq!(why(none, &chain[..3], head(&chain)).sentence, "the end is missing: line 5 was written, the last one here is 3");
    assert_eq!(why(none, &[], head(&chain)).seq, 1);
    assert_eq!(why(none, &chain[2..], head(&chain)).sentence, "lines 1 to 2 are missing");
    let mut changed = chain.clone();
    changed[1].entry.who = "nobody".to_owned();
    assert!(why(none, &changed, head(&chain)).sentence.starts_with("line 2 was changed"));
    // Somebody who removes lines and moves the anchor to where they ended.
    let moved = why(chain[1].mark(), &chain[2..], head(&chain));
    assert_eq!(moved, AuditBreak { seq: 2, sentence: "lines up to 2 are gone, and no line says that they were forgotten".to_owned() });
    let mut forgotten = chain_of(9);
    forget(&mut forgotten, 3);
    let moved = why(forgotten[1].mark(), &forgotten[2..], head(&forgotten));
    assert_eq!(moved.sentence, "line 10 says that lines up to 3 were forgotten, but the log begins behind line 5");
}

/// Ways to falsify a log, each at a line.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Change(u8),
    Remove,
    Swap,
    CutTail,
    MoveAnchor,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![(0u8..9).prop_map(Harm::Change), Just(Harm::Remove), Just(Harm::Swap), Just(Harm::CutTail), Just(Harm::MoveAnchor),]
}

fn change(line: &mut AuditLine, field: u8, salt: u8) {
    let entry = &mut line.entry;
    match field {
        0 => line.seq = line.seq.wrapping_add(1 + u64::from(salt)),
        1 => entry.at.0 ^= 1 + i64::from(salt),
        2 => entry.who.push('x'),
        3 => entry.from.insert(0, ' '),
        4 => entry.action.clear(),
        5 => entry.target.push('\0'),
        6 => entry.detail = entry.detail.to_uppercase(),
        7 => line.previous[usize::from(salt) % 32] ^= 1,
        _ => line.hash[usize::from(salt) % 32] ^= 1,
    }
}

proptest! {
    #[test]
    fn any_one_falsification_is_found(
        lines in 2u64..20, forgotten in 0usize..10, at in any::<prop::sample::Index>(), harm in harm(), salt in any::<u8>()
    ) {
        let mut chain = chain_of(lines);
        let mut anchor = AuditMark::default();
        if (1..chain.len()).contains(&forgotten) {
            anchor = forget(&mut chain, forgotten);
        }
        let written = head(&chain);
        prop_assert_eq!(verdict(anchor, &chain, written).broken, None);
        let at = at.index(chain.len());
        match harm {
            Harm::Change(field) => change(&mut chain[at], field, salt),
            Harm::Remove => { chain.remove(at); }
            Harm::Swap => { let other = if at == 0 { 1 } else { at - 1 }; chain.swap(at, other) }
            Harm::CutTail => chain.truncate(at),
            Harm::MoveAnchor => {
                anchor = chain[at].mark();
                chain.drain(..=at);
            }
        }
        prop_assert!(verdict(anchor, &chain, written).broken.is_some(), "{:?} at {} of {}", harm, at, chain.len());
    }

    #[test]
    fn texts_that_run_together_the_same_way_have_other_hashes(a in "[ab]{0,3}", b in "[ab]{0,3}", c in "[ab]{0,3}", d in "[ab]{0,3}") {
        let hash = |who: &str, from: &str| AuditLine::following(1, [0; 32], AuditEntry { who: who.to_owned(), from: from.to_owned(), ..entry(1) }).hash;
        prop_assert_eq!(hash(&a, &b) == hash(&c, &d), (a, b) == (c, d));
    }
}
