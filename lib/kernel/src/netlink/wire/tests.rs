use super::*;
use proptest::prelude::*;

/// A message as the kernel sends it.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let request = Request {
        kind,
        body: body.to_vec(),
    };
    let mut bytes = request.frame(flags, sequence).unwrap();
    bytes.resize(align(bytes.len()), 0);
    bytes
}

fn verdict(errno: i32, echo: &[u8], text: Option<&str>) -> Vec<u8> {
    let mut body = errno.to_ne_bytes().to_vec();
    body.extend(echo);
    if let Some(text) = text {
        let len = u16::try_from(4 + text.len() + 1).unwrap();
        body.extend(len.to_ne_bytes());
        body.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        body.extend(text.as_bytes());
        body.push(0);
    }
    body
}

#[test]
fn a_request_is_framed_with_its_length_flags_and_sequence() {
    let request = Request {
        kind: 18,
        body: vec![7, 0, 0, 0],
    };
    let expected = [20, 0, 0, 0, 18, 0, 1, 3, 9, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0];
    assert_eq!(request.frame(0x301, 9).unwrap(), expected);
}

#[test]
fn a_refusal_carries_the_kernels_sentence() {
    let text = Some("mtu less than device minimum");
    let refused = Err(Fault::Refused(Errno::EINVAL, text.map(str::to_owned)));
    // Capped: only the header of the request is repeated, whatever length it names.
    let mut echo = [0; 16];
    echo[0] = 200;
    let capped = message(
        2,
        NLM_F_CAPPED | NLM_F_ACK_TLVS,
        5,
        &verdict(-22, &echo, text),
    );
    assert_eq!(Answer::new(5, End::Ack).take(&capped), refused);
    // Not capped: all of it.
    let mut echo = [0; 24];
    echo[0] = 22;
    let whole = message(2, NLM_F_ACK_TLVS, 5, &verdict(-22, &echo, text));
    assert_eq!(Answer::new(5, End::Ack).take(&whole), refused);
}

#[test]
fn a_refusal_without_text_is_still_one() {
    let bytes = message(2, NLM_F_CAPPED, 5, &verdict(-19, &[0; 16], None));
    assert_eq!(
        Answer::new(5, End::First).take(&bytes),
        Err(Fault::Refused(Errno::ENODEV, None))
    );
}

#[test]
fn a_remark_on_success_is_kept() {
    let body = verdict(0, &[0; 16], Some("be careful"));
    let bytes = message(2, NLM_F_CAPPED | NLM_F_ACK_TLVS, 5, &body);
    let mut answer = Answer::new(5, End::Ack);
    assert_eq!(answer.take(&bytes), Ok(true));
    assert_eq!(answer.remark.as_deref(), Some("be careful"));
}

#[test]
fn answers_to_earlier_requests_are_passed_over() {
    let mut bytes = message(2, 0, 4, &verdict(-22, &[0; 16], None));
    bytes.extend(message(16, 0, 4, &[1; 16]));
    let mut answer = Answer::new(5, End::First);
    assert_eq!(answer.take(&bytes), Ok(false));
    assert_eq!(answer.take(&message(16, 0, 5, &[2; 16])), Ok(true));
    assert_eq!(answer.bodies, [vec![2; 16]]);
}

#[test]
fn a_dump_ends_at_its_mark_and_not_before() {
    let mut answer = Answer::new(1, End::Done);
    let mut first = message(16, 2, 1, &[1; 18]);
    first.extend(message(16, 2, 1, &[2; 16]));
    assert_eq!(answer.take(&first), Ok(false));
    assert_eq!(answer.take(&message(3, 2, 1, &[0; 4])), Ok(true));
    assert_eq!(answer.bodies, [vec![1; 18], vec![2; 16]]);
    let empty = message(3, 2, 1, &[]);
    assert_eq!(Answer::new(1, End::Done).take(&empty), Ok(true));
}

#[test]
fn an_interrupted_dump_is_no_result_wherever_the_mark_is() {
    let done = |flags| message(3, 2 | flags, 1, &[0; 4]);
    let mut early = Answer::new(1, End::Done);
    let marked = message(16, 2 | NLM_F_DUMP_INTR, 1, &[1; 16]);
    assert_eq!(early.take(&marked), Ok(false));
    assert_eq!(early.take(&done(0)), Err(Fault::Interrupted));
    let mut late = Answer::new(1, End::Done);
    assert_eq!(late.take(&done(NLM_F_DUMP_INTR)), Err(Fault::Interrupted));
}

#[test]
fn a_dump_that_fails_says_so_in_its_end_mark() {
    let bytes = message(
        3,
        2 | NLM_F_ACK_TLVS,
        1,
        &verdict(-19, &[], Some("no device")),
    );
    assert_eq!(
        Answer::new(1, End::Done).take(&bytes),
        Err(Fault::Refused(Errno::ENODEV, Some("no device".into())))
    );
}

#[test]
fn what_is_cut_short_is_malformed() {
    let whole = message(2, 0, 5, &verdict(-22, &[0; 16], None));
    for len in 1..whole.len() {
        let cut = Answer::new(5, End::Ack).take(&whole[..len]);
        assert!(matches!(cut, Err(Fault::Malformed(_))), "{len}: {cut:?}");
    }
    let short = message(2, 0, 5, &[1, 2]);
    let cut = Answer::new(5, End::Ack).take(&short);
    assert!(matches!(cut, Err(Fault::Malformed(_))), "{cut:?}");
}

proptest! {
    #[test]
    fn any_datagram_is_taken_without_panic(bytes: Vec<u8>, sequence: u32) {
        let _outcome = Answer::new(sequence, End::Done).take(&bytes);
    }
}

#[test]
fn a_datagrams_notices_are_told_apart() {
    let frame = |kind, body: &[u8]| {
        let body = body.to_vec();
        Request { kind, body }.frame(0, 0).unwrap()
    };
    let both = [frame(16, &[1, 2, 3, 4]), frame(17, &[])].concat();
    let told = notices(&both).unwrap();
    assert_eq!((told[0].kind, &told[0].body[..]), (16, &[1, 2, 3, 4][..]));
    assert_eq!((told[1].kind, told.len()), (17, 2));
    assert!(notices(&both[..18]).is_err());
}
