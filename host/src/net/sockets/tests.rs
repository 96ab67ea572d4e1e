use super::*;

/// Versions without Unix sockets read and write this text.
#[test]
fn former_versions_understand_tcp_sockets() {
    let text =
        r#"{"bound":[[{"Address":"localhost:80"},"127.0.0.1:80",2],[{"Systemd":"web"},"[::]:81",1]],"given":["web"]}"#;
    let inventory: Inventory = serde_json::from_str(text).expect("an inventory");
    let descriptors = || (0..4).map(|_| unix::socket().expect("a socket"));
    let sockets = Sockets::from_inventory(inventory, &mut descriptors()).expect("enough descriptors");
    let (inventory, descriptors) = sockets.inventory();
    assert_eq!((serde_json::to_string(&inventory).expect("text").as_str(), descriptors.len()), (text, 4));
}

/// Descriptors come in the order in which versions without Unix sockets read them, and those of Unix sockets last.
#[test]
fn unix_sockets_arrive_as_they_were() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.sock");
    let wanted: Vec<Listen> = [format!("unix:{}", path.display()), "127.0.0.1:0".to_owned()]
        .iter()
        .map(|text| text.parse().expect("a place"))
        .collect();
    let former = Sockets::default().open(Some(&wanted), 2).unwrap_or_default();
    former.listen().expect("a free path");
    let (inventory, descriptors) = former.inventory();
    let text = serde_json::to_string(&inventory).expect("text");
    let mut descriptors: Vec<_> =
        descriptors.iter().map(|socket| socket.try_clone_to_owned().expect("a descriptor")).collect();
    assert_eq!(descriptors.len(), 3);
    assert_eq!(Address::of(&descriptors[2]).expect("an address"), Address::Unix(path.clone()));
    let inventory = serde_json::from_str(&text).expect("an inventory");
    let given = Sockets::from_inventory(inventory, &mut descriptors.drain(..)).expect("enough descriptors");
    let next = given.open(Some(&wanted), 2).unwrap_or_default();
    drop(given);
    next.listen().expect("the same sockets");
    // The file is removed by the one that serves last.
    former.release_files();
    next.claim_files();
    drop(former);
    assert!(path.exists());
    drop(next);
    assert!(!path.exists());
}

#[test]
fn every_worker_has_a_socket_and_every_socket_a_worker() {
    for (sockets, workers, expected) in [
        (1, 1, vec![vec![0]]),
        (1, 3, vec![vec![0, 1, 2]]),
        (2, 2, vec![vec![0], vec![1]]),
        (2, 5, vec![vec![0, 2, 4], vec![1, 3]]),
        (4, 3, vec![vec![0], vec![1], vec![2], vec![0]]),
    ] {
        let seen: Vec<_> = (0_u32..).take(sockets).map(|at| owners(at, sockets, workers)).collect();
        assert_eq!(seen, expected, "{sockets} sockets, {workers} workers");
    }
}

/// Both find the address free before one of them listens.
#[test]
fn of_two_that_begin_to_listen_at_once_one_does() {
    let wanted = |port: u16| [format!("127.0.0.1:{port}").parse::<Listen>().expect("a place")];
    for _ in 0..200 {
        let first = Sockets::default().open(Some(&wanted(0)), 2).unwrap_or_default();
        let port = first.tcp_addresses()[0].port();
        let second = Sockets::default().open(Some(&wanted(port)), 2).unwrap_or_default();
        let both = std::sync::Barrier::new(2);
        let listen = |sockets: &Sockets| {
            both.wait();
            sockets.listen().is_ok()
        };
        let listen = std::thread::scope(|scope| {
            let other = scope.spawn(|| listen(&second));
            [listen(&first), other.join().expect("a result")]
        });
        assert_eq!(listen.iter().filter(|listens| **listens).count(), 1, "of two at port {port}: {listen:?}");
    }
}
