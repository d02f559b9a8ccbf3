internal import CLinux

/// Files and pipes into which the kernel writes the memory of a process that crashed.
package enum CoreDumps {
    /// From now on there is none of this process or of those that it starts: secrets are in their memory. Says why not.
    package static func prevent() -> SystemError? {
        let code = clinux_keep_out_of_cores()
        return code == 0 ? nil : SystemError("limit core dumps", code: code)
    }
}
