# What is wrong with the metadata of a LUKS2 volume (`cryptsetup luksDump --dump-json-metadata`),
# in words; nothing, where it is as the composer makes a root partition, and as machines make other partitions.
def same($what; $value): if . == $value then empty else "\($what) is \(tojson), not \($value | tojson)" end;

[
  (.config.requirements? // {} | same("requirements"; {})),
  (.segments | length | same("the number of segments"; 1)),
  (.segments[] |
    (.type | same("the segment's type"; "crypt")),
    (.offset | same("the segment's offset"; "16777216")),
    (.size | same("the segment's size"; "dynamic")),
    (.iv_tweak | same("the segment's IV"; "0")),
    (.encryption | same("the cipher"; "aes-xts-plain64")),
    (.sector_size | same("the sector size"; 4096)),
    (has("integrity") or has("flags") | same("integrity"; false))),

  (.keyslots | length | if . >= 1 and . <= 32 then empty else "the number of keyslots is \(.)" end),
  (.keyslots[] |
    (.type | same("a keyslot's type"; "luks2")),
    (.key_size | same("the key's size"; 64)),
    (.area.type | same("a keyslot's area"; "raw")),
    (.area.encryption | same("a keyslot's cipher"; "aes-xts-plain64")),
    (.area.key_size | same("a keyslot's key size"; 64)),
    (.kdf.type | if . == "pbkdf2" or . == "argon2id" then empty else "a keyslot's KDF is \(tojson)" end)),

  (.digests | length | same("the number of digests"; 1)),
  (.keyslots | keys | sort) as $slots |
  (.digests[] |
    (.type | same("the digest's type"; "pbkdf2")),
    (.segments | same("the digest's segments"; ["0"])),
    (.keyslots | sort | same("the digest's keyslots"; $slots))),

  (.tokens | length | same("the number of tokens"; 0))
] | unique | join("; ")
