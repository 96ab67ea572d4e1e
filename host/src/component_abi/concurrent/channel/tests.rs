use super::*;
use crate::component_abi::concurrent::host::byte_stream;

/// Reads `read` bytes from the guest's own stream while writing `written` bytes to it. `expected`: what each pair of
/// operations copies.
fn check(read: u32, written: u32, expected: &[u32]) {
    const TO: u32 = 8 << 20;
    let mut memory = vec![0; 2 * TO as usize];
    memory[..written as usize].fill(7);
    let mut channel = Channel::new(byte_stream(), Owner::Guest, Owner::Guest);
    let mut done = 0;
    for copied in expected {
        let buffer = |address, count, via| Buffer { address: address + done, count: count - done, via };
        let (from, to) = (buffer(0, written, End::Writer), buffer(TO, read, End::Reader));
        channel.begin(End::Writer, from, memory.len()).expect("a buffer");
        channel.begin(End::Reader, to, memory.len()).expect("a buffer");
        channel.meet(&mut memory).expect("a copy");
        // Without new operations, nothing more is copied.
        channel.meet(&mut memory).expect("nothing to do");
        let reader = channel.begun(End::Reader, End::Reader).map(|outcome| outcome.count);
        let writer = channel.deliver(End::Writer).expect("its event").map(|outcome| outcome.count);
        assert_eq!((reader, writer), (Some(*copied), Some(*copied)), "{read} of {written}");
        done += copied;
    }
    let arrived = memory[TO as usize..].iter().take_while(|byte| **byte == 7).count();
    assert_eq!(arrived, done as usize, "{read} of {written}");
}

#[test]
fn one_operation_copies_no_more_than_one_call_into_the_host() {
    const MIB: u32 = 1 << 20;
    check(10, 10, &[10]);
    check(2 * MIB, 2 * MIB, &[2 * MIB]);
    check(5 * MIB, 5 * MIB, &[2 * MIB, 2 * MIB, MIB]);
    check(7 * MIB, 3 * MIB, &[2 * MIB, MIB]);
}
