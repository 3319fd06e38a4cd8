# What is wrong with the metadata of a LUKS2 volume (`cryptsetup luksDump --dump-json-metadata`),
# in words; nothing, where it is as systemd-repart makes it.
def same($what; $value): if . == $value then empty else "\($what) is \(tojson), not \($value | tojson)" end;
def pem: gsub("\\s"; "");

[
  (.config.requirements? // {} | same("requirements"; {})),
  (.config.flags? // [] | same("flags"; [])),

  (.segments | length | same("the number of segments"; 1)),
  (.segments[] |
    (.type | same("the segment's type"; "crypt")),
    (.offset | same("the segment's offset"; "16777216")),
    (.size | same("the segment's size"; "dynamic")),
    (.iv_tweak | same("the segment's IV"; "0")),
    (.encryption | same("the cipher"; "aes-xts-plain64")),
    (.sector_size | if . == 512 or . == 4096 then empty else "the sector size is \(tojson)" end),
    (has("integrity") or has("flags") | same("integrity"; false))),

  (.keyslots | length | if . >= 1 and . <= 32 then empty else "the number of keyslots is \(.)" end),
  (.keyslots[] |
    (.type | same("a keyslot's type"; "luks2")),
    (.key_size | same("the key's size"; 64)),
    (.area.type | same("a keyslot's area"; "raw")),
    (.area.encryption | same("a keyslot's cipher"; "aes-xts-plain64")),
    (.area.key_size | same("a keyslot's key size"; 64)),
    (.af | {type, stripes} | same("a keyslot's stripes"; {"type": "luks1", "stripes": 4000})),
    (.af.hash, .kdf.hash // "sha256" | if . == "sha256" or . == "sha512" then empty else "a keyslot's hash is \(tojson)" end),
    (.kdf.type | if . == "pbkdf2" or . == "argon2id" then empty else "a keyslot's KDF is \(tojson)" end)),

  (.digests | length | same("the number of digests"; 1)),
  (.keyslots | keys | sort) as $slots |
  (.digests[] |
    (.type | same("the digest's type"; "pbkdf2")),
    (.hash | if . == "sha256" or . == "sha512" then empty else "the digest's hash is \(tojson)" end),
    (.segments | same("the digest's segments"; ["0"])),
    (.keyslots | sort | same("the digest's keyslots"; $slots))),

  ([.tokens[].type] | same("the tokens"; ["systemd-tpm2"])),
  (.tokens[] | select(.type == "systemd-tpm2") |
    (.keyslots | length | same("the number of the token's keyslots"; 1)),
    (."tpm2-pcrs" | sort | same("the token's PCRs"; [7, 12, 15])),
    (."tpm2-pcr-bank" | same("the token's PCR bank"; "sha256")),
    (."tpm2_pubkey_pcrs" | same("the token's signed PCRs"; [11])),
    (."tpm2_pubkey" | if (. // "" | @base64d | pem) == ($public | pem) then empty
      else "it is bound to another PCR key than this UKI's" end))
] | unique | join("; ")
