//! The account: its devices, its password, and whom it trusts.

use crate::handle::{Failure, QpqHandle, c_string, call, text, user_name};
use qpc_client::executor::block_on;
use qpc_client::{DeviceId, DeviceInfo, Password};
use std::ffi::{CString, c_char};

/// A device of the account.
#[repr(C)]
pub struct QpcDevice {
    /// Bytes of this struct in the library: what is behind them is not there.
    pub size: usize,
    /// What it was called at its first login, perhaps nothing.
    pub label: *const c_char,
    /// Messages and the like that wait for it at the relay.
    pub queued: u64,
    /// Its id.
    pub id: [u8; 16],
    /// 1 if it is connected now, otherwise 0.
    pub online: i32,
    /// 1 if it is the one that asks, otherwise 0.
    pub own: i32,
}

/// Devices. All of it is the library's, and read only.
#[repr(C)]
pub struct QpcDevices {
    /// Bytes of this struct in the library.
    pub size: usize,
    /// How many devices.
    pub count: usize,
    /// One pointer each.
    pub devices: *const *const QpcDevice,
}

/// Sixty digits in twelve groups that are the same for both accounts, unless somebody stands between them: two people
/// compare them by another way. For a user whose identity has changed they are those of the new one. It does not ask the
/// relay; nothing is known of a user before the first message.
///
/// out  receives the digits; free them with qpc_free_string. NULL is stored unless QPC_OK is returned.
///
/// Returns QPC_OK, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR.
///
/// # Safety
/// `handle` is NULL or from this library; `user` is NULL or a NUL-terminated string; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_safety_number(
    handle: *mut QpqHandle,
    user: *const c_char,
    out: *mut *mut c_char,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        if !out.is_null() {
            *out = std::ptr::null_mut();
        }
        call(handle, |handle| {
            let user = user_name(text(user, "user")?)?;
            if out.is_null() {
                return Err(Failure::error("out is NULL"));
            }
            let number = match handle.agent()? {
                Some(agent) => agent.safety_number(&user)?,
                None => handle.logged_in()?.safety_number(&user)?,
            };
            *out = c_string(number).into_raw();
            Ok(())
        })
    }
}

/// Trusts the identity that a user has now, after QPC_EVENT_IDENTITY_CHANGED and once the safety number was compared.
///
/// Returns QPC_OK, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR, also if there is nothing to accept.
///
/// # Safety
/// `handle` is NULL or from this library; `user` is NULL or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_accept_identity(handle: *mut QpqHandle, user: *const c_char) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(handle, |handle| {
            let user = user_name(text(user, "user")?)?;
            match handle.agent()? {
                Some(agent) => agent.accept(&user),
                None => Ok(handle.logged_in()?.accept_identity(&user)?),
            }
        })
    }
}

/// Asks the relay for the account's devices.
///
/// out  receives them; free them with qpc_devices_free. NULL is stored unless QPC_OK is returned.
///
/// Returns QPC_OK, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR.
///
/// # Safety
/// `handle` is NULL or from this library; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_devices(handle: *mut QpqHandle, out: *mut *mut QpcDevices) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        if !out.is_null() {
            *out = std::ptr::null_mut();
        }
        call(handle, |handle| {
            if out.is_null() {
                return Err(Failure::error("out is NULL"));
            }
            if let Some(agent) = handle.agent()? {
                let devices = agent.devices()?;
                *out = OwnedDevices::into_raw(&devices.devices, Some(devices.this));
                return Ok(());
            }
            let client = handle.logged_in()?;
            let devices = block_on(client.devices())?.devices;
            *out = OwnedDevices::into_raw(&devices, client.account().map(|account| account.device));
            Ok(())
        })
    }
}

/// Frees devices. NULL is ignored.
///
/// # Safety
/// `devices` is NULL or from `qpc_devices`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_devices_free(devices: *mut QpcDevices) {
    if !devices.is_null() {
        // SAFETY: the caller's promise: made by `OwnedDevices::into_raw`.
        drop(unsafe { Box::from_raw(devices.cast::<OwnedDevices>()) });
    }
}

/// Removes a device from the account, by the 16 bytes of its id: it gets nothing that is sent from then on. A handle that
/// revokes its own device is no good afterwards.
///
/// Returns QPC_OK, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR (no such device, relay gone, ...).
///
/// # Safety
/// `handle` is NULL or from this library; `device` is NULL or has 16 readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_revoke_device(handle: *mut QpqHandle, device: *const u8) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(handle, |handle| {
            // SAFETY: as above; bytes have no alignment.
            let device =
                device.cast::<[u8; 16]>().as_ref().ok_or_else(|| Failure::error("device is NULL"))?;
            Ok(block_on(handle.logged_in()?.revoke(DeviceId(*device)))?)
        })
    }
}

/// Replaces the account's password. Its devices stay logged in, and each can log in with the new one. Either all of it
/// happens or nothing: if the relay's answer is lost, which qpc_last_error then says, one of the two is the password.
///
/// Returns QPC_OK, QPC_AUTH_FAILED if the old password is wrong, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR.
///
/// # Safety
/// `handle` is NULL or from this library; the passwords are NULL or NUL-terminated strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_change_password(
    handle: *mut QpqHandle,
    old_password: *const c_char,
    new_password: *const c_char,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(handle, |handle| {
            let old = text(old_password, "old_password")?;
            let new = text(new_password, "new_password")?;
            let client = handle.logged_in()?;
            let (old, new) = (Password::new(old)?, Password::new(new)?);
            Ok(block_on(client.change_password(&old, &new))?)
        })
    }
}

/// Devices and what their pointers point to.
#[repr(C)]
struct OwnedDevices {
    public: QpcDevices,
    _pointers: Vec<*const QpcDevice>,
    _devices: Vec<QpcDevice>,
    _labels: Vec<CString>,
}

impl OwnedDevices {
    fn into_raw(devices: &[DeviceInfo], own: Option<DeviceId>) -> *mut QpcDevices {
        let labels: Vec<_> = devices.iter().map(|device| c_string(&*device.label)).collect();
        let devices: Vec<_> = devices
            .iter()
            .zip(&labels)
            .map(|(device, label)| QpcDevice {
                size: size_of::<QpcDevice>(),
                label: label.as_ptr(),
                queued: device.queued,
                id: device.device.0,
                online: device.online.into(),
                own: (own == Some(device.device)).into(),
            })
            .collect();
        let pointers: Vec<*const QpcDevice> = devices.iter().map(std::ptr::from_ref).collect();
        let public =
            QpcDevices { size: size_of::<QpcDevices>(), count: pointers.len(), devices: pointers.as_ptr() };
        Box::into_raw(Box::new(Self { public, _pointers: pointers, _devices: devices, _labels: labels }))
            .cast()
    }
}
