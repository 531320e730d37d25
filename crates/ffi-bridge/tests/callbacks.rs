//! Callbacks as Rust registers and calls them. The table is one for the whole process, so every test has names of its own.

#![allow(clippy::unwrap_used, missing_docs)]

use ffi_bridge::*;
use proptest::prelude::*;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Calls by name, frees the input and everything that came back; what was said, as C would see it.
fn call(name: &str, input: &[u8]) -> Result<Vec<u8>, (FfiErrorCode, String)> {
    let name = CString::new(name).unwrap();
    let input = FfiBuffer::from_vec(input.to_vec());
    let same = FfiBuffer { data: input.data, ..input };
    // SAFETY: a C string; the input lives until it is freed below; what comes back is read before it is freed.
    let (result, outcome) = unsafe {
        let result = ffi_invoke_callback(name.as_ptr(), same);
        let outcome = match result.error_code {
            FfiErrorCode::Ok => Ok(result.payload.as_slice().to_vec()),
            code => Err((code, result.error_message.as_str().to_owned())),
        };
        (result, outcome)
    };
    ffi_result_free(result);
    ffi_buffer_free(input);
    outcome
}

fn answer(bytes: &[u8]) -> FfiResult {
    FfiResult::ok(FfiBuffer::from_vec(bytes.to_vec()))
}

#[test]
fn a_callback_answers_until_it_is_taken_out() {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    register_callback("answers", move |input| {
        counter.fetch_add(1, Ordering::Relaxed);
        // SAFETY: it can be read during the call.
        answer(&[unsafe { input.as_slice() }, b"!"].concat())
    })
    .unwrap();
    assert_eq!(call("answers", b"hello"), Ok(b"hello!".to_vec()));
    assert!(callback_count() >= 1 && ffi_callback_count() >= 1);
    assert_eq!(unregister_callback("answers"), Ok(true));
    assert_eq!(unregister_callback("answers"), Ok(false));
    assert_eq!(call("answers", b"hello"), Err((FfiErrorCode::NotFound, "not found: answers".into())));
    assert_eq!((calls.load(Ordering::Relaxed), Arc::strong_count(&calls)), (1, 1));
}

#[test]
fn the_last_to_register_has_the_name() {
    for answers in [b"first", b"later"] {
        register_callback("replaced", move |_| answer(answers)).unwrap();
    }
    assert_eq!(call("replaced", b""), Ok(b"later".to_vec()));
}

#[test]
fn an_error_keeps_its_code_and_message() {
    for error in [FfiError::Timeout, FfiError::NotFound("row 7".into()), FfiError::Unknown("odd".into())] {
        let returned = error.clone();
        register_callback("fails", move |_| FfiResult::err(returned.clone())).unwrap();
        assert_eq!(call("fails", b"x"), Err((error.code(), error.message())));
    }
}

#[test]
fn a_panic_is_an_error() {
    register_callback("panics", |_| panic!("not on my watch")).unwrap();
    let message = "panic caught at FFI boundary: not on my watch".to_owned();
    assert_eq!(call("panics", b"x"), Err((FfiErrorCode::Panic, message)));
    assert_eq!(call("panics", b"x").unwrap_err().0, FfiErrorCode::Panic);
}

#[test]
fn json_goes_in_and_comes_out() {
    register_callback("doubles", |input| {
        BridgeCall::new(input).run_json(|n: i32| n.checked_mul(2).ok_or(FfiError::Timeout))
    })
    .unwrap();
    assert_eq!(call("doubles", b"21"), Ok(b"42".to_vec()));
    assert_eq!(call("doubles", b"2147483647").unwrap_err().0, FfiErrorCode::Timeout);
    assert_eq!(call("doubles", b"x").unwrap_err().0, FfiErrorCode::Serialization);
}

#[test]
fn a_callback_may_register_call_and_unregister() {
    register_callback("inner", |_| answer(b"inner")).unwrap();
    register_callback("outer", |_| {
        assert_eq!(unregister_callback("outer"), Ok(true));
        register_callback("outer", |_| answer(b"the next one")).unwrap();
        answer(&call("inner", b"x").unwrap())
    })
    .unwrap();
    assert_eq!(call("outer", b"x"), Ok(b"inner".to_vec()));
    assert_eq!(call("outer", b"x"), Ok(b"the next one".to_vec()));
}

#[test]
fn a_callback_may_call_itself() {
    register_callback("recursive", |input| {
        // SAFETY: it can be read during the call.
        match unsafe { input.as_slice() } {
            [] | [_] => FfiResult::ok(input),
            [first, rest @ ..] => answer(&[&call("recursive", rest).unwrap()[..], &[*first]].concat()),
        }
    })
    .unwrap();
    assert_eq!(call("recursive", b"backwards"), Ok(b"sdrawkcab".to_vec()));
}

#[test]
fn dropping_a_callback_may_use_the_registry() {
    struct UsesIt;
    impl Drop for UsesIt {
        fn drop(&mut self) {
            unregister_callback("dropped").unwrap();
            register_callback("dropped too", |_| answer(b"yes")).unwrap();
        }
    }
    let one = UsesIt;
    register_callback("dropped", move |_| {
        let _ = &one;
        answer(b"")
    })
    .unwrap();
    register_callback("dropped", |_| answer(b"")).unwrap();
    assert_eq!(call("dropped", b""), Err((FfiErrorCode::NotFound, "not found: dropped".into())));
    assert_eq!(call("dropped too", b""), Ok(b"yes".to_vec()));
}

#[test]
fn what_is_borrowed_may_be_given_back_or_freed() {
    register_callback("identity", FfiResult::ok).unwrap();
    assert_eq!(call("identity", b"the same"), Ok(b"the same".to_vec()));
    assert_eq!(call("identity", b""), Ok(vec![]));
    register_callback("middle", |input| {
        FfiResult::ok(FfiBuffer { data: input.data.wrapping_add(4), len: 4, capacity: 4 })
    })
    .unwrap();
    assert_eq!(call("middle", b"the same"), Ok(b"same".to_vec()));
    register_callback("freed", |input| {
        let same = FfiBuffer { ..input };
        ffi_buffer_free(input);
        FfiResult::ok(same)
    })
    .unwrap();
    assert_eq!(call("freed", b"the same"), Ok(b"the same".to_vec()));
    // What an outer callback borrowed is not an inner one's to give away either.
    register_callback("outermost", |input| {
        let place = input.data.addr();
        register_callback("inner thief", move |_| {
            let data = std::ptr::with_exposed_provenance_mut(place);
            FfiResult::ok(FfiBuffer { data, len: 8, capacity: 8 })
        })
        .unwrap();
        let _ = input.data.expose_provenance();
        answer(&call("inner thief", b"x").unwrap())
    })
    .unwrap();
    assert_eq!(call("outermost", b"the same"), Ok(b"the same".to_vec()));
}

#[test]
fn what_cannot_be_read_does_not_get_through() {
    register_callback("at NULL", |_| {
        FfiResult::ok(FfiBuffer { data: std::ptr::null_mut(), len: 1, capacity: 1 })
    })
    .unwrap();
    assert_eq!(call("at NULL", b"x").unwrap_err().0, FfiErrorCode::NullPointer);
    register_callback("too long", |_| {
        let mut payload = FfiBuffer::from_vec(vec![7; 4]);
        payload.len = payload.capacity + 1;
        FfiResult::ok(payload)
    })
    .unwrap();
    assert_eq!(call("too long", b"x").unwrap_err().0, FfiErrorCode::BufferTooSmall);
}

#[test]
fn names_are_checked() {
    // SAFETY: NULL or C strings.
    unsafe {
        extern "C" fn callback(_: FfiBuffer) -> FfiResult {
            FfiResult::ok(FfiBuffer::null())
        }
        assert_eq!(ffi_register_callback(std::ptr::null(), callback), -1);
        assert_eq!(ffi_register_callback(c"\xff".as_ptr(), callback), -1);
        assert_eq!(ffi_unregister_callback(std::ptr::null()), -1);
        assert_eq!(ffi_unregister_callback(c"\xff".as_ptr()), -1);
        assert_eq!(ffi_unregister_callback(c"nobody".as_ptr()), -1);
        assert_eq!(ffi_register_callback(c"a function".as_ptr(), callback), 0);
        assert_eq!(ffi_unregister_callback(c"a function".as_ptr()), 0);
        for (name, code) in
            [(std::ptr::null(), FfiErrorCode::NullPointer), (c"\xff".as_ptr(), FfiErrorCode::InvalidUtf8)]
        {
            let result = ffi_invoke_callback(name, FfiBuffer::null());
            assert_eq!(result.error_code, code);
            ffi_result_free(result);
        }
    }
}

#[test]
fn calls_do_not_wait_for_each_other() {
    let meeting = Arc::new(std::sync::Barrier::new(4));
    let met = meeting.clone();
    register_callback("meets", move |_| {
        // Nobody gets past this unless all four are in the callback at once.
        met.wait();
        answer(b"met")
    })
    .unwrap();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| assert_eq!(call("meets", b""), Ok(b"met".to_vec())));
        }
    });
}

#[test]
fn a_callback_taken_out_during_a_call_lives_until_its_end() {
    let alive = Arc::new(());
    let witness = Arc::downgrade(&alive);
    let seen = witness.clone();
    register_callback("taken out", move |_| {
        let _ = &alive;
        assert_eq!(unregister_callback("taken out"), Ok(true));
        answer(&[u8::from(seen.upgrade().is_some())])
    })
    .unwrap();
    assert_eq!(call("taken out", b""), Ok(vec![1]));
    assert!(witness.upgrade().is_none());
}

proptest! {
    #[test]
    fn any_bytes_go_through_unchanged(bytes: Vec<u8>) {
        register_callback("unchanged", FfiResult::ok).unwrap();
        prop_assert_eq!(call("unchanged", &bytes), Ok(bytes));
    }

    #[test]
    fn any_name_without_a_nul_will_do(name in "[^\0]{1,40}") {
        let expected = name.clone();
        register_callback(&name, move |_| answer(expected.as_bytes())).unwrap();
        prop_assert_eq!(call(&name, b""), Ok(name.clone().into_bytes()));
        prop_assert_eq!(unregister_callback(&name), Ok(true));
    }
}
