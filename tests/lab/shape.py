#!/usr/bin/python3
"""A slow link in user space, for kernels without netem.

shape.py carry A B MS MBIT ...   passes Ethernet frames between the interfaces A and B, MS late, at MBIT/s each way
                                 (0: no limit); further arguments only mark the process

What the kernel has not cut into frames yet, as it would be by a network card, is passed on as one (PACKET_VNET_HDR), so that a fast link
costs this machine little processor time; the line counts the frames that it would be.
"""
import collections
import ctypes
import os
import select
import signal
import socket
import struct
import sys
import time

ETH_P_ALL = 3
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
VNET_HDR = struct.Struct("<BBHHHH")  # struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
PR_SET_PDEATHSIG = 1
BUFFER = 16 << 20
BATCH = 64  # frames taken before looking at what is due


def open_raw(interface):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)  # else we would carry our own frames back
    sock.bind((interface, 0))
    sock.setblocking(False)
    return sock


def on_the_line(frame):
    """Bytes that the line carries: each part of what is not cut up yet has headers of its own."""
    _, gso_type, headers, part, _, _ = VNET_HDR.unpack_from(frame)
    size = len(frame) - VNET_HDR.size
    parts = -(-(size - headers) // part) if gso_type and part else 1
    return size + (parts - 1) * headers


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
                frame = source.recv(VNET_HDR.size + (1 << 17))
            except BlockingIOError:
                break
            if waiting > limit:
                continue  # a full switch buffer drops what comes last
            line_free = max(time.monotonic(), line_free)
            if rate:
                line_free += on_the_line(frame) / rate
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
    near, far = open_raw(sys.argv[2]), open_raw(sys.argv[3])
    delay, rate = float(sys.argv[4]) / 1000, float(sys.argv[5]) * 1e6 / 8
    if os.fork() == 0:  # one process a direction, gone with its parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        carry(far, near, delay, rate)
    carry(near, far, delay, rate)


if __name__ == "__main__":
    main()
