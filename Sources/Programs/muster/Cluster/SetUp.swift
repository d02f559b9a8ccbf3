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
        if flock(folder, LOCK_EX | LOCK_NB) == 0 { return }
        let isTaken = errno == EWOULDBLOCK
        let failure = NodeFiles.failure("lock \(path)")
        end()
        if !isTaken { throw failure }
        throw AgentFailure(
            "Another command is setting up a node in \(path) at this moment; wait for it, or name another directory with "
                + "--node-data.")
    }

    deinit { end() }

    func end() {
        if folder >= 0 { close(folder) }
        folder = -1
    }

    /// Takes back a folder that was made for nothing.
    func undo() {
        if isNew { rmdir(path) }
    }
}
