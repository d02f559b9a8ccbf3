package import ClusterBase

/// One attempt to connect, with an end. Answers once, on a later turn or at once when the system refuses at once.
package final class Dialer: ReadinessHandler, TimerHandler {
    private let loop: EventLoop
    private let address: SocketAddress
    private var socket: Socket?
    private var watch: Watch?
    private var timer: TimerID?
    private var handler: ((consuming Socket?, SystemError?) -> Void)?

    /// The handler gets a connected socket, or the error; never both.
    package init(
        _ loop: EventLoop, to address: SocketAddress, timeout: Nanoseconds,
        _ handler: @escaping (consuming Socket?, SystemError?) -> Void
    ) {
        self.loop = loop
        self.address = address
        self.handler = handler
        do throws(SystemError) {
            let socket = try Socket.connecting(to: address)
            self.socket = consume socket
            watch = try self.socket?.watched(by: loop, for: .writable, self)
            timer = loop.setTimer(after: timeout, self, tag: 0)
        } catch {
            failure = error
            timer = loop.setTimer(at: loop.now, self, tag: 1)
        }
    }

    private var failure: SystemError?

    package func ready(_ readiness: Readiness) {
        if let error = socket?.connectError(address) {
            finish(error)
        } else {
            finish(nil)
        }
    }

    package func timerFired(_ tag: Int) {
        timer = nil
        finish(failure ?? .timedOut("connect to", "\(address)"))
    }

    private func finish(_ error: SystemError?) {
        guard let handler else { return }
        let connected = socket.take()
        cancel()
        if let error {
            handler(nil, error)
        } else {
            handler(connected, nil)
        }
    }

    /// Gives up; the handler is not called.
    package func cancel() {
        if let watch { loop.unwatch(watch) }
        if let timer { loop.cancel(timer) }
        watch = nil
        timer = nil
        socket = nil
        handler = nil
    }
}
