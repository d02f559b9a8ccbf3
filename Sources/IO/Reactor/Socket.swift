internal import CLinux
package import ClusterBase
internal import Glibc

/// How a read or write of a socket went.
package enum Transfer: Hashable, Sendable {
    case bytes(Int)
    /// Nothing can be transferred now; the loop tells when it can.
    case notNow
    /// The other side sends nothing more.
    case ended
    case failed(SystemError)
}

/// What a connection's socket is set to.
package struct SocketSettings: Hashable, Sendable {
    /// Sent data that stays unacknowledged so long ends the connection; zero leaves it to the system (about 15 minutes).
    package var userTimeout = Nanoseconds.zero
    /// An idle connection is probed after so long; zero never.
    package var keepAliveIdle = Nanoseconds.seconds(60)
    /// Zero leaves it to the system, which adapts.
    package var sendBufferBytes = 0
    package var receiveBufferBytes = 0
    package init() {}
}

/// One TCP socket, never blocking, closed with its owner.
package struct Socket: ~Copyable {
    let fd: Int32

    init(fd: Int32) { self.fd = fd }

    deinit { _ = clinux_close(fd) }

    /// Of a socket that is connected to a path: the process that listens there.
    package var peerProcess: Int32? {
        let process = clinux_peer_process(fd)
        return process > 0 ? process : nil
    }

    /// Gives the descriptor to whoever closes it, such as a thread that waits for it.
    package consuming func release() -> Int32 {
        let fd = fd
        discard self
        return fd
    }

    /// Listens. Port 0 takes one that is free; `localAddress` says which.
    package static func listening(on address: SocketAddress, backlog: Int = 4_096) throws(SystemError) -> Socket {
        var raw = address.raw
        let socket = Socket(fd: try SystemError.check(clinux_socket(Int32(raw.is_v6)), "make a socket"))
        _ = try SystemError.check(clinux_reuse_address(socket.fd), "set up the socket for", "\(address)")
        if address.isV6 { _ = try SystemError.check(clinux_v6_only(socket.fd), "set up the socket for", "\(address)") }
        _ = try SystemError.check(clinux_bind(socket.fd, &raw), "listen on", "\(address)")
        _ = try SystemError.check(clinux_listen(socket.fd, Int32(backlog)), "listen on", "\(address)")
        return socket
    }

    /// Begins to connect. It is connected when it gets writable and `connectError` is nil.
    package static func connecting(to address: SocketAddress) throws(SystemError) -> Socket {
        var raw = address.raw
        let socket = Socket(fd: try SystemError.check(clinux_socket(Int32(raw.is_v6)), "make a socket"))
        let result = clinux_connect(socket.fd, &raw)
        if result < 0 && result != -EINPROGRESS {
            throw SystemError("connect to", "\(address)", code: -result)
        }
        return socket
    }

    /// Why the connection could not be made, after the loop told that the socket is writable or hung up.
    package func connectError(_ address: SocketAddress) -> SystemError? {
        let result = clinux_socket_error(fd)
        return result == 0 ? nil : SystemError("connect to", "\(address)", code: -result)
    }

    /// The next connection that waits, or nil when none does.
    package func accept(from address: inout SocketAddress) throws(SystemError) -> Socket? {
        var raw = clinux_address()
        while true {
            let result = clinux_accept(fd, &raw)
            if result >= 0 {
                address = SocketAddress(raw)
                return Socket(fd: result)
            }
            switch -result {
            case EAGAIN: return nil
            // The client gave up while it waited, or the network had an error for it: the next one may be fine.
            case EINTR, ECONNABORTED, EPROTO, ENETDOWN, EHOSTDOWN, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT: continue
            default: throw SystemError("accept a connection", code: -result)
            }
        }
    }

    /// Sends at once what is written, and ends connections whose other side is silently gone.
    package func configure(_ settings: SocketSettings) throws(SystemError) {
        _ = try SystemError.check(clinux_no_delay(fd), "set up a connection")
        if settings.userTimeout > .zero {
            let milliseconds = Int32(clamping: max(1, settings.userTimeout.milliseconds))
            _ = try SystemError.check(clinux_user_timeout(fd, milliseconds), "set up a connection")
        }
        if settings.keepAliveIdle > .zero {
            let seconds = Int32(clamping: max(1, settings.keepAliveIdle.milliseconds / 1_000))
            _ = try SystemError.check(clinux_keep_alive(fd, seconds, max(1, seconds / 4), 4), "set up a connection")
        }
        _ = try SystemError.check(
            clinux_buffers(fd, Int32(settings.sendBufferBytes), Int32(settings.receiveBufferBytes)),
            "set up a connection")
    }

    /// Reads what is there, up to the size of the buffer.
    package func read(into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
        let count = clinux_receive(fd, buffer.baseAddress, buffer.count)
        if count > 0 { return .bytes(Int(count)) }
        if count == 0 { return .ended }
        return Socket.outcome(of: Int32(truncatingIfNeeded: count), "read from a connection")
    }

    /// Writes what the system takes now.
    package func write(_ bytes: UnsafeRawBufferPointer) -> Transfer {
        let count = clinux_send(fd, bytes.baseAddress, bytes.count)
        if count >= 0 { return .bytes(Int(count)) }
        return Socket.outcome(of: Int32(truncatingIfNeeded: count), "write to a connection")
    }

    private static func outcome(of result: Int32, _ operation: String) -> Transfer {
        switch -result {
        case EAGAIN, EINTR: .notNow
        default: .failed(SystemError(operation, code: -result))
        }
    }

    /// Tells the other side that nothing more comes; reading goes on.
    package func endWriting() { _ = clinux_shut_writing(fd) }

    /// Lets the close be a reset, which throws away what is queued on both sides.
    package func resetOnClose() { _ = clinux_reset_on_close(fd) }

    /// Has the loop watch it; `unwatch` comes before the socket ends.
    package func watched(
        by loop: EventLoop, for interest: Readiness = .readable, isCrowd: Bool = false,
        _ handler: any ReadinessHandler
    ) throws(SystemError) -> Watch {
        try loop.watch(fd: fd, interest, handler, isCrowd: isCrowd)
    }

    /// The address of this end, with the port that the system chose.
    package var localAddress: SocketAddress? {
        var raw = clinux_address()
        return clinux_local_address(fd, &raw) == 0 ? SocketAddress(raw) : nil
    }
}
