//! Rot in the tables of running clusters: found, never answered with wrong data, repaired from the peers.

mod scene;

use scene::{KEYS, Scene};

#[test]
fn rotten_blocks_of_a_leader_are_read_elsewhere_and_repaired() {
    let scene = Scene::new(1, 3);
    scene.fill_tables(3);
    let leader = scene.leader();
    let rotten = scene.tables(leader);
    rotten.iter().for_each(|path| scene.rot_blocks(leader, path));
    scene.read_all();
    assert_ne!(scene.leader(), leader, "it does not lead while it cannot read");
    scene.repaired(leader);
    let gone = || rotten.iter().all(|path| !scene.tables(leader).contains(path));
    assert!(scene.until(1_000, gone), "the rotten files are gone");
    scene.judge();
}

#[test]
fn rotten_blocks_of_a_follower_are_found_by_its_merge() {
    let scene = Scene::new(2, 3);
    scene.fill_tables(3);
    let follower = (scene.leader() + 1) % 3;
    scene.tables(follower).iter().for_each(|path| scene.rot_blocks(follower, path));
    assert!(scene.damage(follower).is_some());
    for _ in 0..20 {
        scene.fill(700);
        if scene.damage(follower).is_none() {
            break;
        }
    }
    scene.repaired(follower);
    scene.judge();
}

#[test]
fn rot_that_nobody_reads_is_found_by_scrubbing() {
    let scene = Scene::scrubbing(10, 3, 64 << 10);
    scene.fill_tables(3);
    // In a block of one node, in the footer of another.
    for n in 0..2 {
        let path = scene.tables(n).remove(n);
        let bytes = scene.disk(n).peek(&path).expect("there").len() as u64;
        assert!(scene.disk(n).flip_bit(&path, [100, bytes - 50][n], 0));
    }
    let sound = || (0..2).all(|n| scene.damage(n).is_none());
    assert!(!sound());
    let found = (0..60).any(|_| scene.until(2_000, || false) || sound());
    assert!(found, "two walks over so little data took more than two minutes");
    scene.judge();
}

#[test]
fn a_table_that_does_not_open_is_repaired_also_the_one_with_the_session_table() {
    for (seed, newest) in [(3, false), (4, true)] {
        let scene = Scene::new(seed, 3);
        scene.fill_tables(3);
        let follower = (scene.leader() + 1) % 3;
        let tables = scene.tables(follower);
        scene.cluster.kill(follower, true);
        scene.rot_footer(follower, if newest { &tables[tables.len() - 1] } else { &tables[0] });
        scene.fill(50);
        scene.cluster.start(follower);
        scene.repaired(follower);
        scene.fill(50);
        scene.judge();
    }
}

#[test]
fn leader_and_follower_rotten_in_different_tables_are_both_repaired() {
    let scene = Scene::new(5, 3);
    scene.fill_tables(3);
    let leader = scene.leader();
    let follower = (leader + 1) % 3;
    scene.rot_blocks(leader, &scene.tables(leader)[0]);
    let newest = scene.tables(follower).pop().expect("a table");
    scene.rot_footer(follower, &newest);
    scene.restart(follower, false);
    scene.read_all();
    scene.repaired(follower);
    scene.repaired(leader);
    scene.judge();
}

#[test]
fn two_of_three_rotten_and_the_sound_one_away_wait_for_it() {
    let scene = Scene::new(6, 3);
    scene.fill_tables(3);
    for n in 0..2 {
        scene.tables(n).iter().for_each(|path| scene.rot_blocks(n, path));
    }
    scene.cluster.kill(2, false);
    assert!(scene.put("k0", 50), "the logs are sound: writes go on");
    let answered = (0..KEYS).filter(|n| scene.get(*n, 300)).count();
    assert!(answered < KEYS as usize, "nobody has what is rotten twice");
    scene.cluster.start(2);
    (0..2).for_each(|n| scene.repaired(n));
    scene.judge();
}

/// It asked less and less often: peers that came back after twenty seconds were asked after another ten. Found by seed 1000263.
#[test]
fn peers_that_were_away_for_long_are_asked_soon() {
    let scene = Scene::new(9, 3);
    scene.fill_tables(2);
    let follower = (scene.leader() + 1) % 3;
    let others = [(follower + 1) % 3, (follower + 2) % 3];
    let cut = |cut: bool| {
        for other in others.map(|n| scene.cluster.nodes[n].machine) {
            let me = scene.cluster.nodes[follower].machine;
            scene.cluster.net.set_cut(me, other, cut);
            scene.cluster.net.set_cut(other, me, cut);
        }
    };
    cut(true);
    let newest = scene.tables(follower).pop().expect("a table");
    scene.rot_footer(follower, &newest);
    scene.restart(follower, false);
    scene.until(30_000, || false);
    assert!(scene.damage(follower).is_some(), "nobody was there to repair it");
    cut(false);
    assert!(scene.until(7_000, || scene.damage(follower).is_none()), "not repaired 7 s after its peers were back");
    scene.judge();
}

/// It gave the tables up for want of space and said so to nobody: it was offered none for ten seconds. Found by seed 1000403.
#[test]
fn tables_given_up_for_want_of_space_are_offered_again_soon() {
    let scene = Scene::new(10, 3);
    scene.fill_tables(2);
    let follower = (scene.leader() + 1) % 3;
    let newest = scene.tables(follower).pop().expect("a table");
    scene.rot_footer(follower, &newest);
    let disk = scene.disk(follower);
    disk.set_capacity(Some(disk.used()));
    scene.restart(follower, false);
    scene.until(3_000, || false);
    assert!(scene.damage(follower).is_some(), "there is no space for tables");
    disk.set_capacity(None);
    assert!(scene.until(5_000, || scene.damage(follower).is_none()), "not repaired 5 s after there is space again");
    scene.judge();
}

#[test]
fn alone_what_is_sound_is_served_and_the_rest_is_an_error() {
    let scene = Scene::new(7, 1);
    scene.fill_tables(3);
    scene.rot_blocks(0, &scene.tables(0)[1]);
    let answered = (0..KEYS).filter(|n| scene.get(*n, 2_000)).count();
    assert!((1..KEYS as usize).contains(&answered), "{answered} answered");
    assert!(scene.put("k0", 50) && scene.get(0, 2_000));
    // No table opens, not even the one with the session table: nothing is known, nothing is served, nothing falls over.
    scene.tables(0).iter().for_each(|path| scene.rot_footer(0, path));
    scene.restart(0, true);
    scene.until(2_000, || false);
    assert!(!scene.get(0, 2_000), "without its session table it says nothing");
    assert!(scene.cluster.views().iter().all(|view| !view.failed) && !scene.cluster.is_sick(0));
    let findings = lincheck::check(&scene.history.take()).findings;
    assert!(findings.is_empty(), "{}", findings[0]);
}

#[test]
fn killed_or_without_power_at_every_change_of_a_repair_it_is_repaired_later() {
    let scene = Scene::new(8, 3);
    scene.fill_tables(2);
    scene.cluster.disks_fail.set(true);
    let victim = (scene.leader() + 1) % 3;
    let mut stopped = 0;
    for step in 0..16 {
        scene.repaired(victim);
        scene.fill(if step % 4 == 0 { 300 } else { 1 });
        let tables = scene.tables(victim);
        scene.cluster.kill(victim, false);
        scene.rot_footer(victim, &tables[step as usize % tables.len()]);
        scene.cluster.start(victim);
        // The first question goes out half a second after the start.
        scene.until(400, || false);
        let disk = scene.disk(victim);
        disk.crash_after_writes(step);
        stopped += usize::from(scene.until(1_500, || disk.is_down()));
        // A stop that did not come must not come later, when nobody would start the machine again.
        disk.heal();
        scene.restart(victim, step % 2 == 0);
    }
    assert!(stopped > 8, "{stopped} stopped");
    scene.repaired(victim);
    scene.judge();
}

#[test]
fn rot_and_power_loss_of_all_at_once() {
    let scene = Scene::new(9, 3);
    scene.fill_tables(3);
    scene.tables(0).iter().for_each(|path| scene.rot_blocks(0, path));
    let first = scene.tables(1).remove(0);
    scene.rot_footer(1, &first);
    (0..3).for_each(|n| scene.cluster.kill(n, true));
    (0..3).for_each(|n| scene.cluster.start(n));
    scene.read_all();
    (0..2).for_each(|n| scene.repaired(n));
    scene.judge();
}
