internal import CRocksDB
package import ClusterBase

/// Why a store did not open.
package enum StoreOpenFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// Another process, or this one, has it open.
    case inUse(path: String)
    /// There is none, and it was not to be made.
    case missing(path: String)
    case store(StoreError)

    package var description: String {
        switch self {
        case .inUse(let path): "the store \(path) is in use; stop the process that has it open first"
        case .missing(let path): "there is no store at \(path)"
        case .store(let error): error.description
        }
    }

    init(_ text: String, path: String) {
        if text.contains("lock hold by") || text.contains("While lock file") {
            self = .inUse(path: path)
        } else if text.contains("does not exist") && text.contains("create_if_missing") {
            self = .missing(path: path)
        } else {
            self = .store(StoreError(rocks: text, otherwise: .readFailed, "open the store \(path)"))
        }
    }
}

extension StoreError {
    /// RocksDB's own words begin with what kind of error it is.
    init(rocks text: String, otherwise code: Code, _ doing: String) {
        var code = code
        if text.hasPrefix("Corruption") {
            code = .corrupt
        } else if text.contains("No space left") || text.contains("Disk quota") {
            code = .noSpace
        }
        self.init(code, "\(doing): \(text)")
    }
}

/// Takes RocksDB's error text, if there is one, and frees it.
func takeText(_ error: inout UnsafeMutablePointer<CChar>?) -> String? {
    guard let found = error else { return nil }
    let text = String(cString: found)
    rocksdb_free(found)
    error = nil
    return text
}
