/// A field of a VM's specification that only the host that runs the VM may read, such as what cloud-init is told.
///
///     clear, as a client gave it ──▶ sealed before it is part of a command ──▶ log, state, snapshots, backups
///                                                                                  │ to the host that may run the VM
///                                                                                  ▼
///                                                              an annotation, in the memory of the host's driver
///
/// However a value is printed, nothing of it is seen.
package struct SecretField: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    package enum Value: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
        /// As a client gave it. It is sealed before anything is encoded.
        case clear([UInt8])
        /// A box that a holder of the cluster's sealing key made.
        case sealed([UInt8])
        /// What the VM has under this key already.
        case kept

        package var description: String { SecretField.marker }
        package var debugDescription: String { SecretField.marker }
        package var customMirror: Mirror { Mirror(self, children: []) }
    }

    /// What is shown in the place of a value, and what a client sends back to leave it as it is.
    package static let marker = "(secret)"
    /// What drivers take as annotations and is secret wherever it is given.
    package static let keys = ["cloud-init.network-config", "cloud-init.user-data"]

    package var key: String
    package var value: Value
    package init(_ key: String, _ value: Value) {
        self.key = key
        self.value = value
    }

    package var description: String { "\(key): \(SecretField.marker)" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: []) }

    /// The box, or nil of one that is not sealed.
    package var box: [UInt8]? {
        if case .sealed(let box) = value { box } else { nil }
    }
}

extension VMDescription {
    /// True while some of its secret fields are not sealed.
    package var hasOpenSecrets: Bool { secrets.contains { $0.box == nil } }

    /// The mark of a VM that had no secret fields when it was made.
    package static func sealMark(of vm: VMID) -> [UInt8] {
        [UInt8](repeating: 0, count: CellLimits.requestBytes - 8) + vm.rawValue.bigEndianBytes
    }

    /// The same for programs that know no secret fields and keep those that drivers take as annotations. Others stay, and are
    /// refused by who has to keep them.
    package var withAnnotatedSecrets: VMDescription {
        var old = self
        old.secrets = []
        for secret in secrets {
            if case .clear(let value) = secret.value, SecretField.keys.contains(secret.key) {
                old.annotations.append(Named(secret.key, String(decoding: value, as: UTF8.self)))
            } else {
                old.secrets.append(secret)
            }
        }
        return old
    }

    /// With the values of before for fields that are to stay as they are; those that were not there stay `kept`. What older
    /// programs kept as an annotation becomes a secret field.
    package func keepingSecrets(of known: VMDescription) -> VMDescription {
        var merged = self
        for i in merged.secrets.indices where merged.secrets[i].value == .kept {
            let key = merged.secrets[i].key
            if let before = known.secrets.first(where: { $0.key == key }) {
                merged.secrets[i] = before
            } else if let before = known.annotations.first(where: { $0.key == key }) {
                merged.secrets[i].value = .clear(Array(before.value.utf8))
            }
        }
        return merged
    }
}
