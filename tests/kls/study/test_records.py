from kls.study.records import is_sealed, seal_file


def test_a_sealed_file_is_known_to_be_unchanged(tmp_path):
    path = tmp_path / "logits.npy"
    path.write_bytes(b"logits")
    assert not is_sealed(path)
    seal_file(path)
    assert is_sealed(path)
    path.write_bytes(b"others")
    assert not is_sealed(path)
