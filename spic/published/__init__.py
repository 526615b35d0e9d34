"""The artefacts published with the papers: import (`spic import --source ...`) and audit (`--audit`).

    layout      which published file belongs to which operating point, and its SHA-256
    source      a folder, an archive or a URL -> the bytes of the files in it
    checkpoints published weights -> state dict under this project's names; facts about them
    unpickle    published pickled tables -> FrequencyTable, read without executing pickle code
    importing   source -> Weights/ and Freq_tab/
    command     `spic import`
    audit       what the tables and weights say, beside what the published figures show; audit_report puts it in words

github.com/IntelLabs/spic (MIT), commit 640c26c163519f50d4ab2dfa85729ea883fc485d.
"""
