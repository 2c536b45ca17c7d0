//! A program for the kernel that says at which system calls to stop (seccomp(2), in the
//! classic BPF of linux/filter.h).

use std::ffi::c_long;

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// What a call's arguments must be like for a stop. Of each, the low 32 bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Anything.
    Always,
    /// This argument has one of these bits.
    AnyOf(usize, u32),
    /// This argument is not that.
    Not(usize, u32),
}

/// Where `struct seccomp_data` has the call's number, and its first argument of 8 bytes.
const NUMBER: u32 = 0;
const ARGUMENTS: usize = 16;

/// Stops at `calls` and lets all others pass.
pub(super) fn of(calls: impl Iterator<Item = (c_long, Condition)>) -> Vec<sock_filter> {
    let mut program = vec![load(NUMBER)];
    for (number, condition) in calls {
        let then = match condition {
            Condition::Always => vec![stop()],
            Condition::AnyOf(argument, bits) => {
                vec![
                    load(at(argument)),
                    jump(BPF_JSET, bits, 0, 1),
                    stop(),
                    pass(),
                ]
            }
            Condition::Not(argument, value) => {
                vec![
                    load(at(argument)),
                    jump(BPF_JEQ, value, 0, 1),
                    pass(),
                    stop(),
                ]
            }
        };
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let beyond = u8::try_from(then.len()).unwrap_or(u8::MAX);
        program.push(jump(BPF_JEQ, number, 0, beyond));
        program.extend(then);
    }
    program.push(pass());
    program
}

/// Little-endian: the low half comes first.
fn at(argument: usize) -> u32 {
    u32::try_from(ARGUMENTS + 8 * argument).unwrap_or(u32::MAX)
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset)
}

/// Goes on `yes` or `no` instructions later.
fn jump(test: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter {
        jt: yes,
        jf: no,
        ..instruction(BPF_JMP | test | BPF_K, value)
    }
}

fn stop() -> sock_filter {
    instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_TRACE)
}

fn pass() -> sock_filter {
    instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW)
}

fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: 0,
        jf: 0,
        k,
    }
}
