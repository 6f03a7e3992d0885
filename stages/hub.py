"""Is the Hugging Face hub there? A short question, before its client's own tries, which take up to a minute."""

WAIT_S = 10.0  # seconds, as long as the client waits for what it asks first
TRIES = 2  # a network may lose one question


def out_of_reach() -> str:
    """Return in words why no hub can be heard; empty where one answers, whatever it answers, or may not be asked.

    The client's own settings hold: proxies, certificates, HF_ENDPOINT, and HF_HUB_OFFLINE, of which it tells itself.
    """
    from huggingface_hub import constants, get_session
    from huggingface_hub.errors import OfflineModeIsEnabled

    told = ""
    for _ in range(TRIES):
        try:
            get_session().head(constants.ENDPOINT, timeout=WAIT_S, follow_redirects=False)
        except OfflineModeIsEnabled:
            return ""
        except Exception as error:  # those of the HTTP library beneath
            told = f"{constants.ENDPOINT} cannot be reached: {type(error).__name__}"
        else:
            return ""
    return told
