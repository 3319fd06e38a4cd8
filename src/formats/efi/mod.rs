//! What UEFI firmware keeps of Secure Boot: signature lists, authenticated variables, and the store in which OVMF keeps
//! variables.
//!
//! Specifications: UEFI 2.10, chapters 8.2 (variables) and 32.4 (signature databases); UEFI PI 1.8, volume 3 (firmware
//! volumes); edk2, `MdeModulePkg` (the layout of the store). All integers are little-endian, and so are the first three
//! fields of GUIDs.

#[cfg(test)]
mod against_tools;
mod bytes;
pub mod signature_list;
pub mod time;
pub mod variable;
pub mod variable_store;

pub use signature_list::{Entry, SignatureDatabase, SignatureList, SignatureListError};
pub use time::Time;
pub use variable::{AuthenticatedUpdate, AuthenticationError, Variable};
pub use variable_store::{StoreError, VariableStore};

/// GUIDs of variables, signature types and firmware volumes.
pub mod guid {
    use uuid::{Uuid, uuid};

    /// Vendor of `PK`, `KEK`, `SecureBoot`, `SetupMode` and the boot options.
    pub const GLOBAL_VARIABLE: Uuid = uuid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
    /// Vendor of `db`, `dbx`, `dbt`, `dbr`.
    pub const IMAGE_SECURITY_DATABASE: Uuid = uuid!("d719b2cb-3d3a-4596-a3bc-dad00e67656f");
    /// Vendor of edk2's `SecureBootEnable`.
    pub const SECURE_BOOT_ENABLE: Uuid = uuid!("f0a30bc7-af08-4556-99c4-001009c93a44");
    /// Vendor of edk2's `CustomMode`.
    pub const CUSTOM_MODE: Uuid = uuid!("c076ec0c-7028-4399-a072-71ee5c448b9f");

    /// Signature type: an X.509 certificate in DER.
    pub const CERT_X509: Uuid = uuid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");
    /// Signature type: the SHA-256 Authenticode digest of an image.
    pub const CERT_SHA256: Uuid = uuid!("c1c41626-504c-4092-aca9-41f936934328");
    /// Signature type: the SHA-256 of a certificate's signed part, and since when it is revoked.
    pub const CERT_X509_SHA256: Uuid = uuid!("3bd2a492-96c0-4079-b420-fcf98ef103ed");
    /// The same with SHA-384.
    pub const CERT_X509_SHA384: Uuid = uuid!("7076876e-80c2-4ee6-aad2-28b349a6865b");
    /// The same with SHA-512.
    pub const CERT_X509_SHA512: Uuid = uuid!("446dbf63-2502-4cda-bcfa-2465d2b0fe9d");
    /// Type of the signature of an authenticated variable.
    pub const CERT_PKCS7: Uuid = uuid!("4aafd29d-68df-49ee-8aa9-347d375665a7");

    /// File system of the firmware volume that holds variables.
    pub const SYSTEM_NV_DATA: Uuid = uuid!("fff12b8d-7696-4c8b-a985-2747075b4f50");
    /// A variable store whose variables may be authenticated.
    pub const AUTHENTICATED_VARIABLES: Uuid = uuid!("aaf32c78-947b-439a-a180-2e144ec37792");
    /// A variable store that knows no authentication.
    pub const PLAIN_VARIABLES: Uuid = uuid!("ddcf3616-3275-4164-98b6-fe85707ffe7d");
    /// The journal of the fault-tolerant writer.
    pub const WORKING_BLOCK: Uuid = uuid!("9e58292b-7c68-497d-a0ce-6500fd9f1b95");

    /// Owner of what OVMF itself enrols as a placeholder.
    pub const OVMF_DEFAULT_KEYS: Uuid = uuid!("a0baa8a3-041d-48a8-bc87-c36d121b5e3d");
}
