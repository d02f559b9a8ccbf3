internal import CLinux

extension Socket {
    /// Connects to a program of this machine that listens at a path. It succeeds or fails at once; a path has at most 107
    /// bytes.
    package static func connected(toPath path: String) throws(SystemError) -> Socket {
        Socket(fd: try SystemError.check(clinux_connect_path(path), "connect to", path))
    }
}

extension Socket {
    /// Listens at a path of this machine, for its owner alone. What lies there is replaced; a path has at most 107 bytes.
    package static func listening(onPath path: String) throws(SystemError) -> Socket {
        Socket(fd: try SystemError.check(clinux_listen_path(path), "listen at", path))
    }
}
