"""What people and other programs read: tables, sentences, markdown, exports.

It imports claims, gate and records: neither torch nor pytest.
"""
