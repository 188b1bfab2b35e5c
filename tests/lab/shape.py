#!/usr/bin/python3
"""A slow link in user space, for kernels without netem.

shape.py carry A B MS MBIT ...   passes Ethernet frames between the interfaces A and B, MS late, at MBIT/s each way
                                 (0: no limit); further arguments only mark the process
shape.py whole-frames IF...      switches checksum and segmentation offload off, so that frames arrive whole
"""
import array
import collections
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time

SIOCETHTOOL = 0x8946
# ETHTOOL_S: tx checksum, TSO, GSO, GRO, rx checksum
OFFLOADS_OFF = (0x17, 0x1F, 0x24, 0x2C, 0x15)
ETH_P_ALL = 3
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
PR_SET_PDEATHSIG = 1
BUFFER = 16 << 20
BATCH = 64  # frames taken before looking at what is due


def whole_frames(interface):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for command in OFFLOADS_OFF:
        value = array.array("B", struct.pack("II", command, 0))
        request = struct.pack("16sP16x", interface.encode(), value.buffer_info()[0])
        try:
            fcntl.ioctl(sock, SIOCETHTOOL, request)
        except OSError:
            pass  # this interface has no such offload


def open_raw(interface):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)  # else we would carry our own frames back
    sock.bind((interface, 0))
    sock.setblocking(False)
    return sock


def carry(source, target, delay, rate):
    """One direction, for ever. Each frame waits for the ones before it, then `delay` seconds."""
    due = collections.deque()  # (when, frame)
    waiting = 0  # bytes in `due`
    limit = max(4 << 20, int(rate * delay * 4))
    line_free = 0.0  # when the last frame taken will have left the sender
    readable = select.poll()
    readable.register(source, select.POLLIN)
    while True:
        pause = None if not due else (due[0][0] - time.monotonic()) * 1000
        if pause is None or pause > 0.2:
            readable.poll(pause)
        for _ in range(BATCH):
            try:
                frame = source.recv(65536)
            except BlockingIOError:
                break
            if waiting > limit:
                continue  # a full switch buffer drops what comes last
            line_free = max(time.monotonic(), line_free)
            if rate:
                line_free += len(frame) / rate
            due.append((line_free + delay, frame))
            waiting += len(frame)
        now = time.monotonic()
        while due and due[0][0] <= now:
            frame = due.popleft()[1]
            waiting -= len(frame)
            try:
                target.send(frame)
            except OSError:
                pass  # a lost frame: TCP sends it again


def main():
    if sys.argv[1] == "whole-frames":
        for interface in sys.argv[2:]:
            whole_frames(interface)
        return
    near, far = open_raw(sys.argv[2]), open_raw(sys.argv[3])
    delay, rate = float(sys.argv[4]) / 1000, float(sys.argv[5]) * 1e6 / 8
    if os.fork() == 0:  # one process a direction, gone with its parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        carry(far, near, delay, rate)
    carry(near, far, delay, rate)


if __name__ == "__main__":
    main()
