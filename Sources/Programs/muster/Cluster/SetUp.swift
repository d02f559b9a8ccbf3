import Glibc

/// Holds a directory for the one command that makes a node in it: two at once would mix two nodes' files.
final class SetUp {
    private let path: String
    private let isNew: Bool
    private var folder: CInt

    init(_ path: String) throws(AgentFailure) {
        self.path = path
        isNew = access(path, F_OK) != 0
        try NodeFiles.makeFolder(path, isSecret: true)
        folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if folder < 0 { throw NodeFiles.failure("open \(path)") }
        if flock(folder, LOCK_EX | LOCK_NB) == 0 {
            // What will be in it is nobody else's to read.
            if fchmod(folder, 0o700) != 0 { throw NodeFiles.failure("close \(path) to others") }
            return
        }
        let isTaken = errno == EWOULDBLOCK
        let failure = NodeFiles.failure("lock \(path)")
        end()
        if !isTaken { throw failure }
        throw AgentFailure(
            "Another command is setting up a node in \(path) at this moment; wait for it, or name another directory with "
                + "--node-data.")
    }

    deinit { end() }

    /// A folder that was made for nothing goes.
    func end() {
        if folder < 0 { return }
        if isNew { rmdir(path) }
        close(folder)
        folder = -1
    }
}
