//! The store under builds that are killed, run at once, find it damaged, or change a little: the
//! outputs are those of a build with a store of its own.

#![expect(clippy::unwrap_used, reason = "a test")]

mod lab;
mod remote;
mod servers;
mod sets;
#[path = "../support/mod.rs"]
mod support;

use std::thread::sleep;
use std::time::Duration;

use lab::{CHANGES, Lab};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use sets::{KINDS, State};

/// Kills a build at a random point of its time.
fn kill_build(lab: &Lab, random: &mut StdRng) {
    let time = lab.fresh("").time;
    let mut killed = lab.start("", "killed", "store");
    sleep(time.mul_f64(random.r#gen()));
    killed.kill().unwrap();
    killed.wait().unwrap();
}

/// Kills builds at `kills` random points; after each, a build over the same store must be right.
/// Now and then the store begins anew, so that all stages are hit.
fn kill_builds(lab: &Lab, kills: usize) {
    let fresh = lab.fresh("");
    let mut random = StdRng::seed_from_u64(5);
    for kill in 0..kills {
        if kill > 0 && random.gen_bool(0.3) {
            lab.store(&["prune", "--max-size", "0"]);
        }
        kill_build(lab, &mut random);
        let right = lab.build("", "right", "store");
        assert_eq!(right.outputs, fresh.outputs, "after kill {kill}");
        assert_eq!(lab.temporaries(), 0, "after kill {kill}");
    }
    lab.store(&["verify"]);
}

fn waits(stages: &[String]) -> bool {
    stages.iter().any(|stage| stage == "wait for another build")
}

/// Runs `count` builds at once over an empty store: one composes first, and the others wait.
fn at_once(lab: &Lab, count: usize) {
    let fresh = lab.fresh("");
    let names: Vec<String> = (0..count).map(|number| format!("at-once-{number}")).collect();
    let running: Vec<_> = names.iter().map(|name| lab.start("", name, "store")).collect();
    let mut waited = 0;
    for (name, build) in names.iter().zip(running) {
        let (outputs, stages) = lab.finish(build, name);
        assert_eq!(outputs, fresh.outputs, "{name}");
        waited += usize::from(waits(&stages));
    }
    assert!((1..count).contains(&waited), "{waited} of {count} have waited");
}

/// Kills the first of three builds that begin at once over an empty store.
fn kill_first(lab: &Lab, random: &mut StdRng) {
    let fresh = lab.fresh("");
    let mut first = lab.start("", "first", "store");
    while lab.turns() == 0 {
        assert_eq!(first.try_wait().unwrap(), None);
        sleep(Duration::from_millis(5));
    }
    let others = ["second", "third"].map(|name| (name, lab.start("", name, "store")));
    sleep(fresh.time.mul_f64(random.gen_range(0.0..0.5)));
    first.kill().unwrap();
    first.wait().unwrap();
    let mut waited = 0;
    for (name, build) in others {
        let (outputs, stages) = lab.finish(build, name);
        assert_eq!(outputs, fresh.outputs, "{name}");
        waited += usize::from(waits(&stages));
    }
    assert!(waited > 0, "one of the two has composed, and the other waited");
    assert_eq!(lab.turns(), 0);
}

/// Flips bits all over a store that builds have filled: a build over the damage is right, and `verify`
/// names each file.
fn rot(lab: &Lab) {
    let fresh = lab.fresh("");
    let mut random = StdRng::seed_from_u64(7);
    lab.flip_bits(1000, &mut random);
    let over = lab.build("", "over", "store");
    assert_eq!(over.outputs, fresh.outputs);
    let told = "has been dropped from the store and made anew";
    assert!(over.said.contains(told), "{}", over.said);

    let flipped = lab.flip_bits(1000, &mut random);
    let (code, said) = lab.run_store(&["verify"]);
    assert_eq!(code, Some(1), "{said}");
    for path in &flipped {
        assert!(
            said.contains(&*path.to_string_lossy()),
            "{}: {said}",
            path.display()
        );
    }
    assert_eq!(lab.run_store(&["verify"]).0, Some(0));
}

/// Builds with one change after the other over one store, each held against a build of its own.
fn change(lab: &Lab, changes: usize) {
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..changes {
        let count = random.gen_range(1..=3);
        let picked: String = CHANGES.choose_multiple(&mut random, count).copied().collect();
        let cached = lab.build(&picked, "cached", "store");
        assert_eq!(cached.outputs, lab.fresh(&picked).outputs, "{picked}");
    }
}

/// Builds again what is there, and what somebody has changed; then with what the store has of it.
fn again(lab: &Lab) {
    let (first, times) = lab.build_in_place("", "again-and-again", "store");
    let (second, unchanged) = lab.build_in_place("", "again-and-again", "store");
    assert!(
        second.contains("Nothing has changed since it was built"),
        "{second}"
    );
    assert_eq!(unchanged, times, "not a byte is written");
    assert!(!first.contains("Nothing has changed"), "{first}");
    lab.damage_output("again-and-again", ".efi");
    let (third, rebuilt) = lab.build_in_place("", "again-and-again", "store");
    assert!(third.contains("composed before"), "{third}");
    assert_ne!(rebuilt, times);
    // The store has the same file.
    lab.damage_output("again-and-again", ".usr.erofs");
    let (mended, _) = lab.build_in_place("", "again-and-again", "store");
    assert!(
        mended.contains("has been dropped from the store and made anew"),
        "{mended}"
    );
    // Every package and every cluster was there.
    assert_eq!(lab.lookups("again-and-again", "unpack and verify").1, 0);
    let (hits, misses) = lab.lookups("again-and-again", "seal /usr");
    assert!(hits > 1000 && misses == 0, "{hits} hits, {misses} misses");
    let (fourth, _) = lab.build_in_place("kernel.cmdline = [\"quiet\"]\n", "again-and-again", "store");
    assert!(fourth.contains("composed before"), "{fourth}");
    let changed = lab.outputs("again-and-again");
    assert_eq!(changed, lab.fresh("kernel.cmdline = [\"quiet\"]\n").outputs);
}

/// Builds of one set of packages after the other over one store, each after a number of changes, and each
/// held against a build of its own.
fn change_sets(lab: &mut Lab, steps: usize, changes: usize) {
    let Some(sets) = lab.sets() else { return };
    let mut random = StdRng::seed_from_u64(13);
    let mut state = State::default();
    let mut kinds = Vec::new();
    for _ in 0..3 {
        KINDS[0].1(&mut state, &mut random);
    }
    for step in 0..steps {
        let mut made = Vec::new();
        for _ in 0..changes {
            // Each kind in turn, in an order that is another each time.
            if kinds.is_empty() {
                kinds = KINDS.to_vec();
                kinds.shuffle(&mut random);
            }
            let (name, change) = kinds.pop().unwrap();
            change(&mut state, &mut random);
            made.push(name);
        }
        let definition = lab.take(&sets, &state);
        let cached = lab.build(&definition, "cached", "store");
        if step == 0 {
            // Its store was empty too.
            continue;
        }
        let fresh = lab.fresh(&definition);
        assert_eq!(cached.outputs, fresh.outputs, "{step}: {made:?}: {state:?}");
    }
}

#[test]
fn a_store_serves_killed_and_concurrent_builds_and_bears_damage() {
    let Some(lab) = Lab::new() else { return };
    kill_first(&lab, &mut StdRng::seed_from_u64(3));
    again(&lab);
    assert_eq!(lab.temporaries(), 0);
    rot(&lab);
}

#[test]
fn cached_and_uncached_builds_are_equal_after_each_kind_of_change_of_the_set() {
    let Some(lab) = Lab::new() else { return };
    change_sets(&mut lab.quickest(), 2, KINDS.len());
}

#[test]
#[ignore = "two hundred killed builds, and as many right ones"]
fn builds_killed_at_two_hundred_points_do_no_harm() {
    let Some(lab) = Lab::new() else { return };
    kill_builds(&lab, 200);
}

#[test]
#[ignore = "eight builds at once"]
fn eight_builds_share_an_empty_store() {
    let Some(lab) = Lab::new() else { return };
    at_once(&lab, 8);
}

#[test]
#[ignore = "forty builds"]
fn cached_and_uncached_builds_are_equal_after_many_kinds_of_change() {
    let Some(lab) = Lab::new() else { return };
    change(&lab, 20);
}

#[test]
#[ignore = "forty builds"]
fn cached_and_uncached_builds_are_equal_after_many_kinds_of_change_of_the_set() {
    let Some(mut lab) = Lab::new() else { return };
    change_sets(&mut lab, 21, 2);
}
