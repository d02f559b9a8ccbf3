package import ClusterBase
package import StoreLayout

/// Why a data directory can't be used.
package enum DataDirectoryRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// `process` has it open; 0 when that is not known.
    case inUse(path: String, process: Int)
    /// There are files in it that are not a node's.
    case foreign(path: String, name: String)
    /// It would lie in another node's data directory.
    case within(path: String, node: String)
    case refused(path: String, DirectoryRefusal)
    case store(StoreError)

    /// Whether the same start may succeed once there is space.
    package var isNoSpace: Bool {
        switch self {
        case .store(let error), .refused(_, .store(let error)): error.code == .noSpace
        case .inUse, .foreign, .within, .refused: false
        }
    }

    /// Whether the same start may succeed another time: the disk is full, or failed.
    package var mayPass: Bool {
        switch self {
        case .store(let error): error.mayPass
        case .refused(_, let refusal): refusal.mayPass
        case .inUse, .foreign, .within: false
        }
    }

    /// Whether no other start succeeds before somebody does what the description says.
    package var isFinal: Bool {
        if case .inUse = self { false } else { !mayPass }
    }

    package var description: String {
        switch self {
        case .inUse(let path, let process):
            "the data directory \(path) is in use by \(process == 0 ? "another process" : "process \(process)"); stop it "
                + "first, or name another directory"
        case .foreign(let path, let name):
            "the data directory \(path) holds \(name), which is no part of a node; name an empty directory"
        case .within(let path, let node):
            "the data directory \(path) would lie in that of another node, \(node); name one of its own"
        case .refused(let path, let refusal): "\(path): \(refusal)"
        case .store(let error) where error.code == .noSpace:
            "\(error.message); free some space on the file system of the data directory"
        case .store(let error): error.description
        }
    }
}
