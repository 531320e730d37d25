//! Who is online. Everything here can be had again from the store and the connections.

use qpc_proto::id::DeviceId;
use std::collections::BTreeMap;

/// An open session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Online {
    pub(super) number: u32,
    /// As in the device's row.
    pub(super) offset: u64,
    /// The highest request number answered.
    pub(super) highest: u64,
    /// Tells this session from the device's older ones.
    pub(super) token: u32,
}

/// All open sessions, by device and by number.
#[derive(Default)]
pub(super) struct Sessions {
    by_device: BTreeMap<DeviceId, Online>,
    devices: BTreeMap<u32, DeviceId>,
    next_token: u32,
}

impl Sessions {
    /// Opens a session in the place of an older one of the same device; gives its token.
    pub(super) fn open(&mut self, device: DeviceId, online: Online) -> u32 {
        self.next_token = self.next_token.wrapping_add(1);
        self.devices.insert(online.number, device);
        self.by_device.insert(device, Online { token: self.next_token, ..online });
        self.next_token
    }

    pub(super) fn close(&mut self, device: &DeviceId) {
        if let Some(online) = self.by_device.remove(device) {
            self.devices.remove(&online.number);
        }
    }

    pub(super) fn get(&self, device: &DeviceId) -> Option<&Online> {
        self.by_device.get(device)
    }

    pub(super) fn by_number(&self, number: u32) -> Option<(DeviceId, &Online)> {
        let device = self.devices.get(&number)?;
        Some((*device, self.by_device.get(device)?))
    }

    /// A numbered request of the device was answered.
    pub(super) fn answered(&mut self, device: &DeviceId, number: u64) {
        if let Some(online) = self.by_device.get_mut(device) {
            online.highest = online.highest.max(number);
        }
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.by_device.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.by_device.len()
    }
}
