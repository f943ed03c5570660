"""Methods in place of others, and what is left of them afterwards."""

import pytest

from tfbig.training.overrides import overridden


class Speaker:
    def say(self):
        return "class"


def test_the_replacement_gets_the_object_and_goes_again():
    speaker, own = Speaker(), Speaker()
    own.say = lambda: "own"
    with pytest.raises(ZeroDivisionError), overridden([speaker, speaker, own], "say", lambda one: id(one)):
        assert speaker.say() == id(speaker) and own.say() == "own"
        raise ZeroDivisionError
    assert speaker.say() == "class" and own.say() == "own" and not vars(speaker)
