//! Callbacks by name, from Rust: `cargo run -p ffi-bridge --example basic`.

use ffi_bridge::{
    BridgeCall, FfiBuffer, FfiError, FfiErrorCode, FfiResult, callback_count, ffi_buffer_free,
    ffi_invoke_callback, ffi_result_free, register_callback, unregister_callback,
};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Division {
    dividend: i64,
    divisor: i64,
}

fn divide(Division { dividend, divisor }: Division) -> Result<i64, FfiError> {
    dividend.checked_div(divisor).ok_or_else(|| FfiError::Unknown("there is no such quotient".into()))
}

fn main() -> Result<(), FfiError> {
    register_callback("math.divide", |input| BridgeCall::new(input).run_json(divide))?;
    println!("callbacks: {}", callback_count());
    for divisor in [6, 0] {
        let result = call(&Division { dividend: 42, divisor })?;
        if result.error_code == FfiErrorCode::Ok {
            // SAFETY: it was made by the call and is not freed yet.
            println!("42 / {divisor} = {}", unsafe { result.payload.to_json::<i64>() }?);
        } else {
            // SAFETY: as above.
            println!("42 / {divisor}: {}", unsafe { result.error_message.as_str() });
        }
        ffi_result_free(result);
    }
    unregister_callback("math.divide")?;
    Ok(())
}

fn call(division: &Division) -> Result<FfiResult, FfiError> {
    let input = FfiBuffer::from_json(division)?;
    let lent = FfiBuffer { ..input };
    // SAFETY: a C string, and an input that is freed after the call.
    let result = unsafe { ffi_invoke_callback(c"math.divide".as_ptr(), lent) };
    ffi_buffer_free(input);
    Ok(result)
}
